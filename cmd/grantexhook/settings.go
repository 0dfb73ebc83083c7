package main

import (
	"bytes"
	"flag"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/grantexapi"
	"grantex.dev/grantexhook/internal/diagnose"
)

// maxSetting is far more than any secret needs.
const maxSetting = 64 << 10

// variables are the environment variables of the settings.
var variables = map[string]string{"secret": "GRANTEX_WEBHOOK_SECRET", "api-key": "GRANTEX_API_KEY"}

// fileFlag defines the flag for a file that contains a setting. There's no flag for
// the value itself, since everyone on the machine can see arguments.
func fileFlag(fs *flag.FlagSet, name, what string) *string {
	return fs.String(name+"-file", "", "read the "+what+" from `FILE` instead of "+variables[name]+" in the environment")
}

// setting returns the content of file, or the environment's value if file is "". It
// returns "" if the setting is missing.
func (a *app) setting(name, file string) (string, error) {
	env := variables[name]
	if file != "" {
		return readSetting(file)
	}
	value, file := a.getenv(env), a.getenv(env+"_FILE")
	switch {
	case value != "" && file != "":
		return "", usageError(env+" and "+env+"_FILE are both set", "unset one of them")
	case file != "":
		return readSetting(file)
	}
	return value, nil
}

// readSetting drops what editors add to a file: a byte order mark, and a newline at
// the end.
func readSetting(file string) (string, error) {
	text, err := readFile(file, maxSetting)
	if err != nil {
		return "", err
	}
	text = bytes.TrimPrefix(text, []byte("\uFEFF"))
	text = bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
	switch {
	case len(text) == 0:
		return "", usageError(file+" is empty", "is it the right file?")
	case bytes.HasPrefix(text, []byte{0xFF, 0xFE}) || bytes.HasPrefix(text, []byte{0xFE, 0xFF}):
		return "", usageError(file+" is in UTF-16", "save it as UTF-8; PowerShell needs -Encoding utf8")
	}
	return string(text), nil
}

// secret returns the secret to sign or verify with.
func (a *app) secret(file string) (string, error) {
	secret, err := a.anySecret(file)
	if err != nil {
		return "", err
	}
	return secret, checkSecret(secret)
}

// anySecret returns the secret even if it can't be the endpoint's.
func (a *app) anySecret(file string) (string, error) {
	secret, err := a.setting("secret", file)
	if err == nil && secret == "" {
		err = usageError("there is no secret", "set GRANTEX_WEBHOOK_SECRET to the endpoint's secret, or use -secret-file FILE")
	}
	return secret, err
}

func checkSecret(secret string) error {
	if _, err := grantexhook.NewVerifier(secret, nil); err != nil {
		return &failure{err, secretHint, exitUsage}
	}
	return nil
}

const secretHint = "check GRANTEX_WEBHOOK_SECRET or the file that contains it"

// api returns a client of the API.
func (a *app) api(keyFile string) (*grantexapi.Client, error) {
	key, err := a.setting("api-key", keyFile)
	switch {
	case err != nil:
		return nil, err
	case key == "":
		return nil, usageError("there is no API key", "set GRANTEX_API_KEY, or use -api-key-file FILE")
	}
	c := &grantexapi.Client{APIKey: grantexhook.Secret(key), BaseURL: a.getenv("GRANTEX_URL")}
	if a.dial != nil {
		c.HTTPClient = &http.Client{Transport: &http.Transport{DialContext: a.dial, DisableKeepAlives: true}}
	}
	return c, nil
}

// parseTime parses RFC 3339, Unix seconds, or a duration from now.
func parseTime(text string, now time.Time) (time.Time, error) {
	if seconds, err := strconv.ParseInt(text, 10, 64); err == nil {
		if seconds < 0 || seconds > diagnose.MaxSeconds {
			return time.Time{}, usageError(fmt.Sprintf("%q is not a time in Unix seconds", text), "is it in milliseconds, or is a unit missing, as in -10m?")
		}
		return time.Unix(seconds, 0), nil
	}
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(d), nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	return time.Time{}, usageError(fmt.Sprintf("%q is not a time", text), "for example 2026-11-23T12:00:00Z, 1795435200 or -10m")
}

// seconds formats a number of seconds as a duration, unless it's too large for one.
func seconds(n int64) string {
	if n > math.MaxInt64/int64(time.Second) || n < math.MinInt64/int64(time.Second) {
		return fmt.Sprintf("%d s", n)
	}
	return (time.Duration(n) * time.Second).String()
}
