package diagnose

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
)

// LimitWork lowers the bound for the work of a search until the test ends.
func LimitWork(t testing.TB, work int) {
	before := maxWork
	maxWork = work
	t.Cleanup(func() { maxWork = before })
}

// TestSearchEnds checks that a search ends when its work is done, in each of its
// rounds.
func TestSearchEnds(t *testing.T) {
	tests := []struct {
		name, secret, body string
	}{
		{"many secrets", strings.Repeat(`"a=b:`, 20) + `\n",` + "\uFEFF\n", strings.Repeat("x", maxBody)},
		{"many bodies", "secret", `{"a":"` + strings.Repeat("<\u00e9\r\n", 1<<15) + `"}`},
	}
	LimitWork(t, 2<<20)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := http.Header{grantexhook.HeaderSignature: {"sha256=" + strings.Repeat("ab", 32)}}
			s := &search{body: []byte(tt.body), secrets: secrets(tt.secret), times: times("1795434598")}
			found, ok := s.run(claims(h, grantexhook.HeaderSignature))
			require.False(t, ok, found)
			require.Greater(t, s.work, maxWork)
			require.Less(t, s.work, maxWork+(transformCost+1)*maxBody)
		})
	}
}

// TestClaimsAreFew checks that only the first values of a header are considered. Each
// costs time that doesn't count as work.
func TestClaimsAreFew(t *testing.T) {
	h := http.Header{grantexhook.HeaderSignature: make([]string, 400)}
	require.Len(t, claims(h, grantexhook.HeaderSignature), 3)
}

func TestSecretsAreFew(t *testing.T) {
	all := secrets("export A=\"b='%41QUJD\\n' # c\"; //\u200b\n")
	require.Len(t, all, 64)
	require.True(t, slices.IsSortedFunc(all, func(a, b guess) int { return len(a.mistakes) - len(b.mistakes) }), "those with few mistakes come first")
}

// TestIndentedSize checks that the size is never underestimated, wherever the depth is.
func TestIndentedSize(t *testing.T) {
	deep := strings.Repeat("[", 50) + "[]" + strings.Repeat(",1", 500) + strings.Repeat("]", 50)
	for _, body := range []string{deep, `["\"",` + deep + `]`, `["\\",` + deep + `]`, `{"a":{},"b":` + deep + `}`} {
		var b bytes.Buffer
		require.NoError(t, json.Indent(&b, []byte(body), "", "    "))
		require.GreaterOrEqual(t, indentedSize([]byte(body), 4), b.Len(), body)
		require.Less(t, indentedSize([]byte(body), 4), 2*b.Len(), body)
	}
}
