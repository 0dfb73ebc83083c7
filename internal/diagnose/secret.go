package diagnose

import (
	"encoding/hex"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxSecrets bounds the guesses at the secret.
const maxSecrets = 64

// A step turns a secret or a body into what it may have been before a mistake. It
// returns nil, or the value itself, where the mistake wasn't made.
type step struct {
	Mistake
	undo func([]byte) []byte
}

// wrappings are mistakes in storing a secret. Several may come together.
var wrappings = []step{
	{Mistake{SecretWrapped, "the secret has white space around it"}, onText(strings.TrimSpace)},
	{Mistake{SecretWrapped, "the secret has quotes around it"}, onText(func(s string) string { return strings.Trim(s, "\"'`‘’“”«»") })},
	{Mistake{SecretWrapped, "the secret begins with a byte order mark"}, trimMark},
	{Mistake{SecretWrapped, "the secret has characters that don't print"}, onText(printing)},
	{Mistake{SecretWrapped, `the secret ends in a literal \n`}, onText(trimLiteral)},
	{Mistake{SecretWrapped, "the secret has a name before it, like NAME="}, onText(trimName)},
	{Mistake{SecretWrapped, "the secret has a comma or semicolon after it"}, onText(func(s string) string { return strings.TrimRight(s, ",;") })},
	{Mistake{SecretWrapped, "the secret has a comment after it"}, onText(trimComment)},
	{Mistake{SecretEncoded, "the secret is in UTF-16"}, fromUTF16},
	{Mistake{SecretEncoded, "the secret is the base64 of the right one, like the data of a Kubernetes Secret"}, toText(fromBase64)},
	{Mistake{SecretEncoded, "the secret is the hex of the right one"}, toText(fromHex)},
	{Mistake{SecretEncoded, "the secret is percent-encoded"}, fromPercent},
}

// keys are mistakes in using a secret as a key.
var keys = []step{
	{Mistake{SecretDecoded, "it was signed with the secret decoded from hex"}, fromHex},
	{Mistake{SecretDecoded, "it was signed with the secret decoded from base64"}, fromBase64},
	{Mistake{SecretDecoded, "the secret is in upper case"}, onText(strings.ToLower)},
	{Mistake{SecretDecoded, "it was signed with the secret in upper case"}, onText(strings.ToUpper)},
	{Mistake{SecretNewline, "it was signed with a newline after the secret"}, func(s []byte) []byte { return append(slices.Clone(s), '\n') }},
}

// secrets returns guesses at the key, those with the fewest mistakes first. The
// first is the secret itself.
func secrets(secret string) []guess {
	all := []guess{{value: []byte(secret)}}
	seen := map[string]bool{secret: true}
	add := func(g guess, steps []step) {
		for _, s := range steps {
			if v := s.undo(g.value); len(v) > 0 && !seen[string(v)] && len(all) < maxSecrets {
				seen[string(v)] = true
				all = append(all, g.and(v, s.Mistake))
			}
		}
	}
	for i := 0; i < len(all); i++ {
		if len(all[i].mistakes) < 3 {
			add(all[i], wrappings)
		}
	}
	for _, g := range slices.Clone(all) {
		add(g, keys)
	}
	slices.SortStableFunc(all, func(a, b guess) int { return len(a.mistakes) - len(b.mistakes) })
	return all
}

func onText(f func(string) string) func([]byte) []byte {
	return func(v []byte) []byte { return []byte(f(string(v))) }
}

// toText limits f to results that are text, as a right secret is. Characters in it that
// don't print may be another mistake, for example a byte order mark.
func toText(f func([]byte) []byte) func([]byte) []byte {
	return func(v []byte) []byte {
		text := f(v)
		if !utf8.Valid(text) {
			return nil
		}
		return text
	}
}

func fromHex(v []byte) []byte {
	plain, err := hex.DecodeString(string(v))
	if err != nil {
		return nil
	}
	return plain
}

func fromBase64(v []byte) []byte {
	text := strings.Map(func(r rune) rune { // base64 from a command has line breaks
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, string(v))
	for _, e := range encodings {
		if plain, err := e.DecodeString(text); err == nil {
			return plain
		}
	}
	return nil
}

func fromPercent(v []byte) []byte {
	plain, err := url.PathUnescape(string(v))
	if err != nil {
		return nil
	}
	return []byte(plain)
}

func printing(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) || unicode.IsSpace(r) {
			return r
		}
		return -1
	}, s)
}

func trimLiteral(s string) string { return strings.TrimSuffix(strings.TrimSuffix(s, `\n`), `\r`) }

// name matches what comes before a secret in a shell, a Dockerfile, YAML or a flag.
var name = regexp.MustCompile(`^(?:export\s+|set\s+|env\s+|ENV\s+|--?)?[A-Za-z_][A-Za-z0-9_.-]*(?:=|\s*[=:]\s+)`)

func trimName(s string) string { return s[len(name.FindString(s)):] }

func trimComment(s string) string {
	for _, mark := range []string{" #", "\t#", " //"} {
		s, _, _ = strings.Cut(s, mark)
	}
	return strings.TrimSpace(s)
}
