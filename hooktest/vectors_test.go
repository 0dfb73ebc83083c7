package hooktest_test

import (
	"encoding/json"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
)

//go:generate go test -run ^TestVectorsAreUpToDate$ -update .
var update = flag.Bool("update", false, "write testdata/vectors.json")

const vectorsFile = "testdata/vectors.json"

// A vector is a delivery with the result that a verifier should return. See
// testdata/README.md.
type vector struct {
	Name             string      `json:"name"`
	Expect           string      `json:"expect"`
	VerifyAt         int64       `json:"verify_at"`
	RequireTimestamp bool        `json:"require_timestamp"`
	Secret           string      `json:"secret"`
	Headers          [][2]string `json:"headers"`
	Body             []byte      `json:"body"`
}

func (v vector) header() http.Header {
	h := http.Header{}
	for _, kv := range v.Headers {
		h.Add(kv[0], kv[1])
	}
	return h
}

func vectors(t *testing.T) []vector {
	t.Helper()
	text, err := os.ReadFile(vectorsFile)
	require.NoError(t, err)
	var all []vector
	require.NoError(t, json.Unmarshal(text, &all))
	return all
}

func TestVectorsAreUpToDate(t *testing.T) {
	text, err := json.MarshalIndent(makeVectors(t), "", "  ")
	require.NoError(t, err)
	text = append(text, '\n')
	if *update {
		require.NoError(t, os.WriteFile(vectorsFile, text, 0o644))
	}
	have, err := os.ReadFile(vectorsFile)
	require.NoError(t, err)
	require.Equal(t, string(text), string(have), "out of date; run go generate ./hooktest")
}

var expectations = map[string]error{
	"ok":            nil,
	"no_signature":  grantexhook.ErrNoSignature,
	"bad_signature": grantexhook.ErrBadSignature,
	"stale":         grantexhook.ErrStale,
}

func TestVectors(t *testing.T) {
	met := map[string]int{}
	for _, v := range vectors(t) {
		met[v.Expect]++
		t.Run(v.Name, func(t *testing.T) {
			want, ok := expectations[v.Expect]
			require.True(t, ok, v.Expect)
			synctest.Test(t, func(t *testing.T) { verifyVector(t, v, want) })
		})
	}
	require.Len(t, met, len(expectations), "each expectation occurs")
}

func verifyVector(t *testing.T, v vector, want error) {
	t.Helper()
	time.Sleep(time.Until(time.Unix(v.VerifyAt, 0)))
	var reason string
	verifier, err := grantexhook.NewVerifier(v.Secret, &grantexhook.Options{
		RequireTimestamp: v.RequireTimestamp,
		Refused:          func(_ *http.Request, r string, _ error) { reason = r },
		Log:              silent,
	})
	require.NoError(t, err)
	require.ErrorIs(t, verifier.Verify(v.header(), v.Body), want)

	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, "/", newBody(v.Body))
	r.Header = v.header()
	verifier.Middleware(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).ServeHTTP(w, r)
	if want == nil {
		require.Equal(t, http.StatusOK, w.Code)
		return
	}
	require.Equal(t, http.StatusUnauthorized, w.Code)
	require.Equal(t, v.Expect, reason)
}

// TestVectorsOfTheReference checks the expectations with a second verifier. It checks
// in another order, so it fails if a vector is wrong in two ways at once.
func TestVectorsOfTheReference(t *testing.T) {
	for _, v := range vectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			require.Equal(t, v.Expect, reference(v))
		})
	}
}
