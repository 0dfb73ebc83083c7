package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/grantexapi"
)

// maxSetting is far more than any secret has.
const maxSetting = 64 << 10

// variable returns the name of the environment variable for a setting.
func variable(name string) string {
	if name == "secret" {
		return "GRANTEX_WEBHOOK_SECRET"
	}
	return "GRANTEX_API_KEY"
}

// fileFlag defines the flag for a file that holds a setting: the value itself in
// an argument could be read by everyone on the machine.
func fileFlag(fs *flag.FlagSet, name, what string) *string {
	return fs.String(name+"-file", "", "read the "+what+" from `FILE` instead of "+variable(name)+" in the environment")
}

// setting returns the content of file if there is one, and otherwise what the
// environment says; empty if that is nothing.
func (a *app) setting(name, file string) (string, error) {
	env := variable(name)
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

func readSetting(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", usageError(err.Error(), "")
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSetting+1))
	switch value := strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r"); {
	case err != nil:
		return "", usageError(err.Error(), "")
	case len(text) > maxSetting:
		return "", usageError(fmt.Sprintf("%s is larger than %d bytes", file, maxSetting), "is it the right file?")
	case value == "":
		return "", usageError(file+" is empty", "is it the right file?")
	default:
		return value, nil
	}
}

// secret returns the secret to sign or verify with.
func (a *app) secret(file string) (string, error) {
	secret, err := a.setting("secret", file)
	if err != nil {
		return "", err
	}
	if secret == "" {
		return "", usageError("there is no secret", "set GRANTEX_WEBHOOK_SECRET to that of the endpoint, or use -secret-file FILE")
	}
	if _, err := grantexhook.NewVerifier(secret, nil); err != nil {
		return "", &failure{err, "look at GRANTEX_WEBHOOK_SECRET or at the file that holds it", exitUsage}
	}
	return secret, nil
}

// client returns a Client for the API, which uses h unless that is nil.
func (a *app) client(keyFile string, h *http.Client) (*grantexapi.Client, error) {
	key, err := a.setting("api-key", keyFile)
	if err == nil && key == "" {
		err = errors.New("there is no API key")
		err = &failure{err, "set GRANTEX_API_KEY, or use -api-key-file FILE", exitUsage}
	}
	if err != nil {
		return nil, err
	}
	return &grantexapi.Client{APIKey: grantexhook.Secret(key), BaseURL: a.getenv("GRANTEX_URL"), HTTPClient: h}, nil
}
