package hooktest_test

import (
	"flag"
	"regexp"
	"testing"
)

// runTest runs f with a t, which an example doesn't have. Pass the example's name, to
// which -run and -skip apply.
func runTest(name string, f func(t *testing.T)) {
	// The lines of -v would count as the example's output.
	verbose := flag.Lookup("test.v").Value
	was := verbose.String()
	verbose.Set("false")
	defer verbose.Set(was)

	matches := func(pattern, name string) (bool, error) { return regexp.MatchString(pattern, name) }
	ran := false // with -count or -cpu, RunTests would run f several times
	testing.RunTests(matches, []testing.InternalTest{{Name: name, F: func(t *testing.T) {
		if !ran {
			ran = true
			f(t)
		}
	}}})
}
