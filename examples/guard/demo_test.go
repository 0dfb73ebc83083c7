package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDemo runs the program as without an account, and checks that the revocation had
// all three effects.
func TestDemo(t *testing.T) {
	var out strings.Builder
	require.NoError(t, demo(t.Context(), &out))
	require.Regexp(t, `^The agent has called read_note [1-9]\d* times\. Its grant is revoked\.
 *\d+\.\d ms later its next call is rejected\.
 *\d+\.\d ms later its call under way ends\.
 *\d+\.\d ms later its open stream is cut\.
$`, out.String())
}
