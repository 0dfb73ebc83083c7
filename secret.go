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

// redacted is shown in place of a secret.
const redacted = "[redacted]"

// A Secret is text that must not be shown, such as the secret of an endpoint. fmt,
// log/slog and encoding/json print and encode it as "[redacted]", which [NewVerifier]
// rejects as a secret. Convert it to a string to use it. Decoding a Secret sets it to
// the encoded text.
//
// These bypass redaction and reveal the secret:
//   - fmt with an unexported field of a struct. Export the field, or give the struct
//     a Format method.
//   - fmt with %p or %w, or with a verb other than %v for a struct behind a pointer.
//   - encoding/json with a Secret as the key of a map.
//   - encoding/gob, and reflection, for example in tools that print differences.
//
// A struct that embeds a Secret without a field name gets its methods. The whole struct
// then prints and encodes as "[redacted]".
type Secret string

// Format implements [fmt.Formatter]. With only a String method, %d would show the secret.
func (Secret) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// String returns "[redacted]".
func (Secret) String() string { return redacted }

// LogValue implements [slog.LogValuer].
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements [encoding.TextMarshaler], which encoding/json uses.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// mistakeIn returns why a secret can't be one that Grantex showed, without quoting it.
func mistakeIn(secret string) string {
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

// These end up in the environment if a file, a shell or a template is misread. Base64
// may end in "=", but never has it before other characters.
var (
	escapedEnd  = regexp.MustCompile(`\\[nrt]$`)
	placeholder = regexp.MustCompile(`^(\$\{.*\}|\$\(.*\)|\$[A-Z_][A-Z0-9_]*|\$(?i:env):.*|%[A-Z_][A-Z0-9_]*%|\{\{.*\}\}|<.*>|…|\.{3,}|\w+://.*|@Microsoft\.KeyVault\(.*\))$`)
	assignment  = regexp.MustCompile(`(?i)^((\$env:|--|(-e|env|export|set|declare -x) +)?[a-z_][\w.-]* *= *[^= ]|(export|set) +\w+=$)`)
)

// unprintable also matches the replacement character, which decoding leaves in
// place of bytes that aren't UTF-8.
func unprintable(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }

// quoted reports whether s is in matching quotes, which may be escaped. A comma may
// follow them, as in JSON, and a letter or a dollar sign may precede them, as in
// Python and Bash.
func quoted(s string) bool {
	s = strings.TrimLeft(strings.TrimRight(s, ",;"), `\b$`)
	first, size := utf8.DecodeRuneInString(s)
	last, _ := utf8.DecodeLastRuneInString(s)
	match := first == last || first > unicode.MaxASCII || last > unicode.MaxASCII
	return match && len(s) > size && isQuote(first) && isQuote(last)
}

func isQuote(r rune) bool { return r == '`' || unicode.Is(unicode.Quotation_Mark, r) }

// tooShortForFIPS reports whether an HMAC with secret as its key would panic.
func tooShortForFIPS(secret string) bool {
	return len(secret) < 112/8 && fips140.Enforced() // NIST SP 800-131A: 112 bits
}
