package riverinbox

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// The fuzz test checks that an event has an id and a type, and that River returns the
// bytes of its body.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"id":"evt_1","type":"grant.created","createdAt":"2026-11-23T12:01:56.867Z","data":{}}`,
		`{"id":"evt_1","type":"a.b","nul":"\u0000","nul":1e999}`, `{"ID":"evt_1","TYPE":"a.b"}`, "{\"id\":\"\xff\",\"type\":\"\xff\"}",
		`{"id":"evt\u0000","type":"a\u0000"}`, `1795564800.{"id":"evt_1","type":"a.b"}`, `{"id":1,"type":"a.b"}`, `{"id":"evt_1"}`, `[]`, `null`, ``,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := parse(body)
		if err != nil {
			require.Zero(t, e)
			return
		}
		require.NotEmpty(t, e.ID)
		require.NotEmpty(t, e.Type)
		require.NotContains(t, e.ID+e.Type, "\x00", "PostgreSQL can't store it")
		encoded, err := json.Marshal(e)
		require.NoError(t, err)
		var back event
		require.NoError(t, json.Unmarshal(encoded, &back))
		require.Equal(t, e.ID, back.ID)
		require.Equal(t, body, back.Body)
	})
}
