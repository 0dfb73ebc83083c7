package grantexhook

import (
	"crypto/fips140"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// redacted stands where a secret was meant to be, when it went through a log.
const redacted = "[redacted]"

// A Secret is what the deliveries to an endpoint are signed with. Whatever
// prints or encodes it, be it fmt, log/slog or encoding/json, writes
// "[redacted]", which [NewVerifier] refuses as a secret. string(s) is the secret
// itself, decoding yields it too, and the zero value "" is none.
//
// Some ways do not ask a Secret how it wants to be shown, and show it:
//   - fmt in an unexported field of a struct, where it may not call methods.
//     Keep it in an exported one, or give the struct a Format method.
//   - fmt under the verbs %p and %w, and where a struct of yours is behind a
//     pointer within what is printed, under verbs other than %v.
//   - encoding/json, if it is the key of a map.
//   - encoding/gob.
//   - What reads values by reflection, such as the differences that tests print.
//
// A struct of yours that embeds a Secret, rather than having it in a field with a
// name, takes over its methods: it prints and encodes as "[redacted]", the other
// fields lost.
type Secret string

// Format implements [fmt.Formatter], so that no verb that asks it shows the
// secret. With String alone, %d would.
func (Secret) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// String returns "[redacted]".
func (Secret) String() string { return redacted }

// LogValue implements [slog.LogValuer].
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements [encoding.TextMarshaler], which encoding/json and its
// like ask.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// checkSecret returns an error if a secret can't be one that Grantex showed. The
// error doesn't quote the secret.
func checkSecret(name, secret string) error {
	mistake := secretMistake(secret)
	if mistake == "" {
		return nil
	}
	return fmt.Errorf("grantexhook: %s %s", name, mistake)
}

func secretMistake(secret string) string {
	switch {
	case secret == "":
		return "is empty; set it to the value shown when the endpoint was created"
	case strings.TrimSpace(secret) != secret:
		return "has white space around it; trim it"
	case secret == redacted:
		return "is the placeholder " + redacted + "; convert the Secret to a string instead of printing it"
	case strings.ContainsFunc(secret, unprintable):
		return "has an unprintable character, such as a byte order mark or a newline; remove it"
	case escapedEnd.MatchString(secret):
		return `ends with escaped white space, such as \n; remove it`
	case quoted(secret):
		return "has quotes around it; remove them"
	case assignment.MatchString(secret):
		return "is an assignment, NAME=value; use only the value"
	case placeholder.MatchString(secret):
		return "is an unexpanded placeholder, such as ${NAME}; replace it with the value it stands for"
	case tooShortForFIPS(secret):
		return "is shorter than 14 bytes, which GODEBUG=fips140=only forbids; use the secret that Grantex showed"
	}
	return ""
}

// These end up in the environment when a file, a shell or a template isn't read as
// intended. Base64 may end in "=", but never has it before other characters.
var (
	escapedEnd  = regexp.MustCompile(`\\[nrt]$`)
	placeholder = regexp.MustCompile(`^(\$\{.*\}|\$\(.*\)|\$[A-Z_][A-Z0-9_]*|\$(?i:env):.*|%[A-Z_][A-Z0-9_]*%|\{\{.*\}\}|<.*>|…|\.{3,}|\w+://.*|@Microsoft\.KeyVault\(.*\))$`)
	assignment  = regexp.MustCompile(`(?i)^((\$env:|--|(-e|env|export|set|declare -x) +)?[a-z_][\w.-]* *= *[^= ]|(export|set) +\w+=$)`)
)

// unprintable also matches the replacement character, which decoding leaves in
// place of bytes that aren't UTF-8.
func unprintable(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }

// quoted reports whether s is enclosed in matching quotes, which may be escaped. A
// comma may follow them, as in JSON, and a letter or a dollar sign may precede them,
// as in Python and Bash.
func quoted(s string) bool {
	s = strings.TrimLeft(strings.TrimRight(s, ",;"), `\b$`)
	first, size := utf8.DecodeRuneInString(s)
	last, _ := utf8.DecodeLastRuneInString(s)
	switch {
	case len(s) == size || !isQuote(first) || !isQuote(last):
		return false
	default:
		return first == last || first > unicode.MaxASCII || last > unicode.MaxASCII
	}
}

func isQuote(r rune) bool { return r == '`' || unicode.Is(unicode.Quotation_Mark, r) }

// tooShortForFIPS reports whether an HMAC with secret as its key would panic.
func tooShortForFIPS(secret string) bool {
	const shortest = 112 / 8 // NIST SP 800-131A
	return len(secret) < shortest && fips140.Enforced()
}
