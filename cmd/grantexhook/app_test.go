package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHelp(t *testing.T) {
	golden(t, "help", session{}.run(t.Context(), "help").String())
	golden(t, "help-endpoints", session{}.run(t.Context(), "help", "endpoints").String())
	for _, c := range commands {
		t.Run(c.name, func(t *testing.T) {
			words := strings.Fields(c.name)
			helped := session{}.run(t.Context(), append([]string{"help"}, words...)...)
			golden(t, "help-"+strings.Join(words, "-"), helped.String())
			for _, h := range []string{"-h", "-help", "--help"} {
				require.Equal(t, helped, session{}.run(t.Context(), append(words, h)...))
			}
		})
	}
	require.Equal(t, session{}.run(t.Context(), "help"), session{}.run(t.Context(), "-h"))
	require.Equal(t, session{}.run(t.Context(), "help", "endpoints"), session{}.run(t.Context(), "endpoints", "--help"))
}

func TestUsageErrors(t *testing.T) {
	const secret, key = "GRANTEX_WEBHOOK_SECRET", "GRANTEX_API_KEY"
	tests := []struct {
		name string
		env  map[string]string
		args string
		want string // on stderr
	}{
		{"nothing", nil, "", "no command given\nhint: grantexhook help"},
		{"unknown", nil, "frobnicate", `unknown command "frobnicate"` + "\nhint: grantexhook help"},
		{"a letter missing", nil, "lisen", "hint: grantexhook help lists the commands"},
		{"letters swapped", nil, "sned a b", "hint: grantexhook help lists the commands"},
		{"the beginning", nil, "deliv", "did you mean 'grantexhook deliveries'?"},
		{"the first of two words", nil, "endpoint list", "did you mean 'grantexhook endpoints"},
		{"the second of two words", nil, "endpoints creat", "did you mean 'grantexhook endpoints create'?"},
		{"like a flag", nil, "--version", "did you mean 'grantexhook version'?"},
		{"only dashes", nil, "--", "hint: grantexhook help lists the commands"},
		{"far from any second word", nil, "endpoints frobnicate", "hint: grantexhook help endpoints"},
		{"one of two words", nil, "endpoints", "endpoints needs a subcommand: list, create, delete, rotate"},
		{"help of nothing", nil, "help frobnicate", `unknown command "frobnicate"`},
		{"too few", nil, "send grant.created", "usage is 'grantexhook send [flags] TYPE URL'"},
		{"too many", nil, "listen now", "usage is 'grantexhook listen [flags]'"},
		{"unknown flag", nil, "send -x a b", "flag provided but not defined: -x\nhint: grantexhook help send"},
		{"secret in an argument", nil, "send -secret s3cr3t a b", "there is no flag -secret, since everyone"},
		{"key in an argument", nil, "forward -api-key=s3cr3t a", "use -api-key-file FILE, or set GRANTEX_API_KEY"},
		{"no secret", nil, "send grant.created http://h", "there is no secret\nhint: set GRANTEX_WEBHOOK_SECRET"},
		{"secret twice", map[string]string{secret: "s3cr3t", secret + "_FILE": "f"}, "send grant.created http://h", "are both set"},
		{"secret with white space", map[string]string{secret: "s3cr3t "}, "send grant.created http://h", "white space around it"},
		{"secret in no file", nil, "send -secret-file testdata/none grant.created http://h", "open testdata/none"},
		{"secret in an empty file", map[string]string{secret + "_FILE": os.DevNull}, "send grant.created http://h", "is empty"},
		{"no key", nil, "endpoints list", "there is no API key\nhint: set GRANTEX_API_KEY"},
		{"no sample", nil, "send grant.exploded http://h", `there is no sample event of type "grant.exploded"`},
		{"no URL", nil, "send grant.created ftp://h", "must begin with http"},
		{"no events", nil, "send -count 0 grant.created http://h", "-count must be at least 1"},
		{"time without a timestamp", nil, "send -legacy -at -1m grant.created http://h", "mutually exclusive"},
		{"milliseconds", nil, "send -at 1795434598000 grant.created http://h", "milliseconds"},
		{"no unit", nil, "send -at -600 grant.created http://h", "is a unit missing, as in -10m?"},
		{"no time", nil, "send -at yesterday grant.created http://h", "is not a time"},
		{"no data", nil, "send -data - x.y http://h", "the data is not JSON"},
		{"path with a query", nil, "listen -path /hook?x", "must not contain ?"},
		{"path without a slash", nil, "listen -path hook", "must begin with /"},
		{"no types", nil, "forward -types , http://h", "-types names no type"},
		{"no receiver", nil, "forward h", "must begin with http"},
		{"no status", map[string]string{key: "k"}, "deliveries -status lost wh_1", `unknown status "lost"`},
		{"no status of a grant", map[string]string{key: "k"}, "grants -status expired", `unknown status "expired"` + "\nhint: use active or revoked"},
		{"create for no URL", map[string]string{key: "k"}, "endpoints create h", "must begin with http"},
		{"two clocks", nil, "verify -any-time -now 1", "mutually exclusive"},
		{"headers twice", nil, "verify -request f -timestamp 1", "mutually exclusive"},
		{"no request", nil, "verify -request testdata/none", "open testdata/none"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := session{env: tt.env}.run(t.Context(), strings.Fields(tt.args)...)
			require.Equal(t, exitUsage, r.status)
			require.Empty(t, r.stdout)
			require.Contains(t, r.stderr, tt.want)
			require.Regexp(t, `^grantexhook: [^\n]*[^.\n]\n(hint: [^\n]+\n)?$`, r.stderr)
			require.NotContains(t, r.stderr, "s3cr3t")
		})
	}
}

func TestFlagsAnywhere(t *testing.T) {
	tests := []struct{ name, args string }{
		{"before", "-count 0 grant.created http://h"},
		{"between", "grant.created -count 0 http://h"},
		{"after", "grant.created http://h -count 0"},
		{"after it all", "-count 0 -- grant.created http://h"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := session{}.run(t.Context(), append([]string{"send"}, strings.Fields(tt.args)...)...)
			require.Contains(t, r.stderr, "-count must be at least 1")
		})
	}
	r := session{}.run(t.Context(), "send", "--", "-count", "0")
	require.Contains(t, r.stderr, "must begin with http", "after -- there are no flags")
	r = session{}.run(t.Context(), "send", "--", "grant.created", "-count")
	require.Contains(t, r.stderr, "must begin with http", "not even after another argument")
}

func TestSecretFromFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	for _, end := range []string{"", "\n", "\r\n"} {
		require.NoError(t, os.WriteFile(file, []byte(testSecret+end), 0o600))
		byFile, another := map[string]string{"GRANTEX_WEBHOOK_SECRET_FILE": file}, map[string]string{"GRANTEX_WEBHOOK_SECRET": "another"}
		for _, s := range []session{{}, {env: byFile}, {env: another}} {
			a := &app{getenv: func(name string) string { return s.env[name] }}
			flag := file
			if s.env["GRANTEX_WEBHOOK_SECRET_FILE"] != "" {
				flag = ""
			}
			secret, err := a.secret(flag)
			require.NoError(t, err)
			require.Equal(t, testSecret, secret)
		}
	}
	require.NoError(t, os.WriteFile(file, []byte("\uFEFF"+testSecret+"\r\n"), 0o600))
	text, err := readSetting(file)
	require.NoError(t, err)
	require.Equal(t, testSecret, text, "without the byte order mark")
	require.NoError(t, os.WriteFile(file, []byte(" "+testSecret), 0o600))
	_, err = (&app{}).secret(file)
	require.ErrorContains(t, err, "white space around it", "only a newline is usual in a file")
	for name, content := range map[string]string{"is empty": "\uFEFF\n", "is in UTF-16": "\xff\xfes\x00"} {
		require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
		_, err = readSetting(file)
		require.ErrorContains(t, err, name)
	}
	most := strings.Repeat("s", maxSetting)
	require.NoError(t, os.WriteFile(file, []byte(most), 0o600))
	text, err = readSetting(file)
	require.NoError(t, err)
	require.Equal(t, most, text)
	require.NoError(t, os.WriteFile(file, []byte(most+"s"), 0o600))
	_, err = readSetting(file)
	require.ErrorContains(t, err, "larger")
	_, err = readSetting(t.TempDir())
	require.Error(t, err)
}

// TestLostResult checks that a result that could not be written is not a success.
func TestLostResult(t *testing.T) {
	var stderr bytes.Buffer
	status := run(t.Context(), []string{"version"}, os.Getenv, nil, brokenPipe{}, &stderr)
	require.Equal(t, exitFailed, status)
	require.Equal(t, "grantexhook: writing the result: broken pipe\n", stderr.String())
}

func TestRun(t *testing.T) {
	var stdout, stderr bytes.Buffer
	require.Equal(t, exitDone, run(context.Background(), []string{"version"}, os.Getenv, nil, &stdout, &stderr))
	require.Regexp(t, `^grantexhook \S+ go\S+ \w+/\w+\n$`, stdout.String())
	require.Empty(t, stderr.String())
	require.Equal(t, "devel", version(nil))
}
