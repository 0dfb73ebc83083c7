package hooktest_test

import (
	"flag"
	"regexp"
	"testing"
)

// runTest gives f what an example lacks: the t of a test. Like the go command it
// heeds -run and -skip, for which the name is that of the example.
func runTest(name string, f func(t *testing.T)) {
	// The lines of -v would be taken for the output of the example.
	verbose := flag.Lookup("test.v").Value
	was := verbose.String()
	verbose.Set("false")
	defer verbose.Set(was)

	matches := func(pattern, name string) (bool, error) { return regexp.MatchString(pattern, name) }
	ran := false // -count and -cpu would have RunTests run it several times, and the example once
	testing.RunTests(matches, []testing.InternalTest{{Name: name, F: func(t *testing.T) {
		if !ran {
			ran = true
			f(t)
		}
	}}})
}
