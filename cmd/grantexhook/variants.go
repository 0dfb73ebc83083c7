package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/internal/sender"
)

// A variant is what was signed if these mistakes were made.
type variant struct {
	value    []byte
	mistakes []mistake
}

// A variants grows by what differs from the value as it is.
type variants []variant

func as(value []byte) variants { return variants{{value: value}} }

func (v *variants) add(value []byte, what, fix string) {
	if value != nil && !bytes.Equal(value, (*v)[0].value) {
		*v = append(*v, variant{value, []mistake{{what, fix}}})
	}
}

// secretsLike returns the keys that people take for the secret.
func secretsLike(secret string) variants {
	v := as([]byte(secret))
	const trim = "trim it where it is read from a file or from the environment"
	trimmed := strings.TrimSpace(secret)
	v.add([]byte(trimmed), "the secret has white space around it", trim)
	v.add([]byte(strings.Trim(trimmed, `"'`)), "the secret has quotes around it", trim)
	const text = "the key is the text of the secret as it stands, not decoded"
	if key, err := hex.DecodeString(trimmed); err == nil {
		v.add(key, "it was signed with the secret decoded from hex", text)
	}
	if key, err := base64.StdEncoding.DecodeString(trimmed); err == nil {
		v.add(key, "it was signed with the secret decoded from base64", text)
	}
	v.add([]byte(strings.ToLower(trimmed)), "the secret is in upper case", text)
	v.add([]byte(strings.ToUpper(trimmed)), "it was signed with the secret in upper case", text)
	v.add([]byte(secret+"\n"), "it was signed with a newline after the secret", "printf %s makes no newline, where echo does")
	return v
}

// bodiesLike returns what may have been signed if it is not just this body.
func bodiesLike(body []byte) variants {
	v := as(body)
	const raw = "verify the bytes as they come, before anything reads or decodes them"
	v.add(bytes.TrimRight(body, "\r\n"), "the body has a newline at its end that was not signed", "an editor or echo adds it; printf %s does not")
	v.add(append(bytes.Clone(body), '\n'), "the body was signed with a newline at its end, which is gone", raw)
	v.add(append(bytes.Clone(body), "\r\n"...), "the body was signed with a CRLF at its end, which is gone", raw)
	lf := bytes.ReplaceAll(body, []byte("\r\n"), []byte("\n"))
	v.add(lf, "line ends of the body have become CRLF", raw)
	v.add(bytes.ReplaceAll(lf, []byte("\n"), []byte("\r\n")), "line ends of the body have become LF", raw)
	v.add(bytes.TrimPrefix(body, []byte("\uFEFF")), "the body begins with a byte order mark", raw)
	v.encodings(body)
	v.formats(body)
	return v
}

func (v *variants) encodings(body []byte) {
	const once = "undo the encoding before verifying"
	var text string
	if json.Unmarshal(body, &text) == nil {
		v.add([]byte(text), "the body is a JSON string that holds the body", once)
	}
	if plain, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(body))); err == nil && len(plain) > 0 {
		v.add(plain, "the body is in base64", once)
	}
	if plain, err := dechunk(body); err == nil {
		v.add(plain, "the body still has the frames of its chunks", once)
	}
}

// formats are for a body that was decoded and encoded again.
func (v *variants) formats(body []byte) {
	const raw = "a JSON value that is encoded again is no longer what was signed: verify the raw bytes"
	var b bytes.Buffer
	if json.Compact(&b, body) != nil {
		return
	}
	compact := bytes.Clone(b.Bytes())
	v.add(compact, "the body has other white space than what was signed, which is compact", raw)
	v.add(unescapeHTML(compact), "the body has HTML escapes (\\u003c, \\u003e, \\u0026) that were not signed", raw)
	b.Reset()
	json.HTMLEscape(&b, compact)
	v.add(bytes.Clone(b.Bytes()), "the body was signed with HTML escapes, which are gone", raw)
	for _, indent := range []string{"  ", "    ", "\t"} {
		b.Reset()
		json.Indent(&b, compact, "", indent)
		v.add(bytes.Clone(b.Bytes()), "the body was signed with indentation, which is gone", raw)
	}
	v.add(rewritten(body), "the body was decoded and encoded again, with other escapes or another order of its fields", raw)
}

func unescapeHTML(text []byte) []byte {
	for escape, char := range map[string]string{`\u003c`: "<", `\u003e`: ">", `\u0026`: "&"} {
		text = bytes.ReplaceAll(text, []byte(escape), []byte(char))
	}
	return text
}

// rewritten writes an event as Grantex does, as far as its type is known.
func rewritten(body []byte) []byte {
	var e grantexhook.RawEvent
	if json.Unmarshal(body, &e) != nil {
		return nil
	}
	switch e.Type {
	case grantexhook.TypeGrantCreated:
		return rewrite[grantexhook.GrantCreated](body)
	case grantexhook.TypeGrantRevoked:
		return rewrite[grantexhook.GrantRevoked](body)
	case grantexhook.TypeTokenIssued:
		return rewrite[grantexhook.TokenIssued](body)
	}
	return nil
}

func rewrite[T any](body []byte) []byte {
	var e grantexhook.Event[T]
	if json.Unmarshal(body, &e) != nil {
		return nil
	}
	text, err := sender.Body(grantexhook.Event[any]{ID: e.ID, Type: e.Type, CreatedAt: e.CreatedAt, Data: e.Data})
	if err != nil {
		return nil
	}
	return text
}

// timesLike returns what may have been signed as the timestamp.
func timesLike(h http.Header) variants {
	value := h.Get(grantexhook.HeaderTimestamp)
	v := as([]byte(value))
	if n, err := strconv.ParseInt(value, 10, 64); err == nil {
		const seconds = "the timestamp is in whole Unix seconds, and signed as it is sent"
		v.add(strconv.AppendInt(nil, n/1000, 10), grantexhook.HeaderTimestamp+" is in milliseconds, and seconds were signed", seconds)
		v.add(strconv.AppendInt(nil, n*1000, 10), "milliseconds were signed, and "+grantexhook.HeaderTimestamp+" is in seconds", seconds)
		v.add(strconv.AppendInt(nil, n, 10), grantexhook.HeaderTimestamp+" has zeros or a sign before its digits", seconds)
		if n > maxSeconds {
			v[0].mistakes = []mistake{{grantexhook.HeaderTimestamp + " is in milliseconds", seconds}}
		}
	}
	return v
}

// contents returns what may stand before the body in what was signed.
func contents(header string, times variants) (all variants) {
	legacy := variant{}
	if header == grantexhook.HeaderSignatureV2 {
		legacy.mistakes = []mistake{{header + " is made of the body alone, like " + grantexhook.HeaderSignature, "it is made of the timestamp, a dot and the body"}}
	}
	all = append(all, legacy)
	if len(times[0].value) == 0 {
		return all
	}
	for _, t := range times {
		dotted := variant{append(bytes.Clone(t.value), '.'), t.mistakes}
		bare := variant{t.value, append(t.mistakes[:len(t.mistakes):len(t.mistakes)], mistake{"the dot between timestamp and body was not signed", "it is made of the timestamp, a dot and the body"})}
		if header == grantexhook.HeaderSignature {
			dotted.mistakes = append(dotted.mistakes[:len(dotted.mistakes):len(dotted.mistakes)],
				mistake{header + " is made of timestamp and body, like " + grantexhook.HeaderSignatureV2, "it is made of the body alone"})
			bare.mistakes = append(bare.mistakes, dotted.mistakes[len(dotted.mistakes)-1])
		}
		all = append(all, dotted, bare)
	}
	return all
}
