package grantexhook

import (
	"fmt"
	"io"
	"log/slog"
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
