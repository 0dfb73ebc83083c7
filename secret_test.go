package grantexhook_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"text/template"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
)

// verbs are verbs of fmt, some that don't exist, and flags. For %p and %w, fmt doesn't
// call a method.
var verbs = []string{
	"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%O", "%b", "%e", "%E", "%f", "%F", "%g", "%G", "%t", "%c", "%U", "%T",
	"%z", "%!", "%100v", "%-100s", "%.3s", "% x", "%#x", "%+q", "%#q", "%08d", "%[1]v", "%[2]v", "%v%v", "%*d",
}

// requireHidden checks that no way to show the values shows the hidden text, not even
// encoded.
func requireHidden(t *testing.T, hidden string, values ...any) {
	t.Helper()
	for _, v := range values {
		for _, verb := range verbs {
			requireNotShown(t, hidden, fmt.Sprintf(verb, v), "%T under "+verb, v)
		}
		requireNotShown(t, hidden, fmt.Sprint(v)+fmt.Sprintln(v)+fmt.Errorf("%w", errors.New(fmt.Sprint(v))).Error(), "%T in Sprint", v)
		requireNotShown(t, hidden, logged(v), "%T in slog", v)
		text, _ := json.Marshal(map[string]any{"v": v})
		requireNotShown(t, hidden, string(text), "%T in JSON", v)
		text, _ = xml.Marshal(v)
		requireNotShown(t, hidden, string(text), "%T in XML", v)
		var page strings.Builder
		require.NoError(t, template.Must(template.New("").Parse("{{.}} {{printf `%q %d` . .}}")).Execute(&page, v))
		requireNotShown(t, hidden, page.String(), "%T in a template", v)
	}
}

func requireNotShown(t *testing.T, hidden, text, format string, v any) {
	t.Helper()
	// Half of it is enough: a precision, a width or an encoding may cut it.
	half := hidden[:len(hidden)/2]
	for _, form := range []string{half, hex.EncodeToString([]byte(half)), base64.StdEncoding.EncodeToString([]byte(half))[:12]} {
		require.NotContains(t, strings.ToLower(strings.NewReplacer(" ", "", "0x", "").Replace(text)), strings.ToLower(form), format, v)
	}
}

// logged returns what the handlers of slog write for v.
func logged(v any) string {
	var log bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		l := slog.New(h).With("with", v).WithGroup("g")
		l.Info(fmt.Sprint(v), "v", v, slog.Group("deep", "v", v), "list", []any{v})
	}
	return log.String()
}

// A holder is a struct that a user might write.
type holder struct {
	S grantexhook.Secret  `json:"secret"`
	P *grantexhook.Secret `json:"p"`
}

func TestSecretIsHidden(t *testing.T) {
	s := grantexhook.Secret(secret)
	h := holder{s, &s}
	requireHidden(t, secret, s, &s, h, &h, []grantexhook.Secret{s}, []*grantexhook.Secret{&s}, []holder{h},
		map[string]grantexhook.Secret{"k": s}, [1]any{s}, struct{ H *holder }{nil})
	requireNotShown(t, secret, fmt.Sprintf("%v %+[1]v %#[1]v", map[grantexhook.Secret]int{s: 1}), "%T as a key", s)
	requireNotShown(t, secret, fmt.Sprintf("%v %+[1]v %#[1]v", struct{ h *holder }{&h}), "%T", h)
}

func TestSecretShowsAPlaceholder(t *testing.T) {
	for _, s := range []grantexhook.Secret{"", secret} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%b", "%e", "%t"} {
			require.Equal(t, "[redacted]", fmt.Sprintf(verb, s), verb)
			require.Equal(t, "[redacted]", fmt.Sprintf(verb, &s), verb)
		}
		require.Equal(t, "[redacted]", s.String())
		require.Equal(t, "[redacted]", s.LogValue().String())
		text, err := json.Marshal(s)
		require.NoError(t, err)
		require.JSONEq(t, `"[redacted]"`, string(text))
	}
}

func TestSecretDecodes(t *testing.T) {
	var h holder
	require.NoError(t, json.Unmarshal([]byte(`{"secret":"`+secret+`"}`), &h))
	require.Equal(t, secret, string(h.S))
}

// An encoded Secret must not be accepted as a secret when it is read again.
func TestSecretPlaceholderIsRejected(t *testing.T) {
	text, err := json.Marshal(holder{S: secret})
	require.NoError(t, err)
	var h holder
	require.NoError(t, json.Unmarshal(text, &h))
	_, err = grantexhook.NewVerifier(string(h.S), nil)
	require.ErrorContains(t, err, "the secret is the placeholder [redacted]")
}
