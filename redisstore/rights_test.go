package redisstore_test

import (
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook/redisstore"
)

// TestRights checks the documented ACL rules. A client needs no others.
func TestRights(t *testing.T) {
	documented := []any{"+set", "+get", "+del", "+eval"}
	tests := []struct {
		name   string
		db     int
		rights []any
		want   string // in the error; empty if the calls succeed
	}{
		{"as documented", 0, documented, ""},
		{"another database", 1, documented, "'select'"},
		{"another database, as documented", 1, append(documented, "+select"), ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			opts := *options(t)
			admin := dial(t, &opts)
			name, prefix := "grantexhook-test-"+rand.Text(), "grantexhook-test-"+rand.Text()+":"
			user := append([]any{"ACL", "SETUSER", name, "on", ">a-password", "~" + prefix + "*"}, test.rights...)
			if err := admin.Do(t.Context(), user...).Err(); err != nil && strings.HasPrefix(err.Error(), "NOPERM") {
				t.Skip("this user can't add users: ", err)
			}
			defer admin.Do(t.Context(), "ACL", "DELUSER", name)

			opts.Username, opts.Password, opts.DB = name, "a-password", test.db
			s, err := redisstore.New(dial(t, &opts), &redisstore.Options{Prefix: prefix})
			require.NoError(t, err)
			token, _, err := s.Claim(t.Context(), "evt_1", time.Minute)
			if test.want != "" {
				require.ErrorContains(t, err, "NOPERM")
				require.ErrorContains(t, err, test.want)
				return
			}
			require.NoError(t, err)
			require.NoError(t, s.Done(t.Context(), "evt_1", time.Millisecond))
			require.NoError(t, s.Release(t.Context(), "evt_1", token))
		})
	}
}
