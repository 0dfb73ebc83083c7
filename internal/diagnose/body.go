package diagnose

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"io"
	"iter"
	"net/url"
	"slices"
	"unicode/utf16"
	"unicode/utf8"
)

// maxBody bounds a guess at the body. A small body may expand to gigabytes.
const maxBody = 1 << 20

// changes are mistakes in handling a body.
var changes = []step{
	{Mistake{BodyEnd, "the body has a newline at its end that was not signed"}, trimNewline},
	{Mistake{BodyEnd, "the body has a CRLF at its end that was not signed"}, trimCRLF},
	{Mistake{BodyChanged, "the body was signed with a newline at its end, which is gone"}, ending("\n")},
	{Mistake{BodyChanged, "the body was signed with a CRLF at its end, which is gone"}, ending("\r\n")},
	{Mistake{BodyChanged, "the line endings of the body have become CRLF"}, toLF},
	{Mistake{BodyChanged, "the line endings of the body have become LF"}, toCRLF},
	{Mistake{BodyChanged, "the body begins with a byte order mark"}, trimMark},
	{Mistake{BodyChanged, "the body was signed with a byte order mark, which is gone"}, addMark},
	{Mistake{BodyEncoded, "the body is inside a JSON string"}, fromString},
	{Mistake{BodyEncoded, "the body is in base64"}, fromBase64},
	{Mistake{BodyEncoded, "the body is still in chunked encoding"}, fromChunks},
	{Mistake{BodyEncoded, "the body is compressed with gzip"}, fromGzip},
	{Mistake{BodyEncoded, "the body is compressed with zlib, which HTTP calls deflate"}, fromZlib},
	{Mistake{BodyEncoded, "the body is percent-encoded, like a form"}, fromForm},
	{Mistake{BodyEncoded, "the body is in the field body of an object, as in an AWS Lambda event"}, fromEnvelope},
	{Mistake{BodyChanged, "the body is in UTF-16, and UTF-8 was signed"}, fromUTF16},
	{Mistake{BodyChanged, "the body is in Latin-1 or Windows-1252, and UTF-8 was signed"}, fromLatin1},
	{Mistake{BodyChanged, "the body was read as Latin-1 and written as UTF-8"}, toLatin1},
	{Mistake{BodyRewritten, "the body has more white space than what was signed, which is compact"}, compact},
	{Mistake{BodyRewritten, `the body has HTML escapes (\u003c, \u003e, \u0026) that were not signed`}, unescapeHTML},
	{Mistake{BodyRewritten, "the body was signed with HTML escapes, which are gone"}, escapeHTML},
	{Mistake{BodyRewritten, "the body was signed with indentation, which is gone"}, indent("  ")},
	{Mistake{BodyRewritten, "the body was signed with indentation, which is gone"}, indent("    ")},
	{Mistake{BodyRewritten, "the body was signed with indentation, which is gone"}, indent("\t")},
	{Mistake{BodyRewritten, "the body was decoded and re-encoded, with other escapes or another order of fields"}, rewritten},
}

// bodies yields guesses at what was signed, if n changes led from it to the body.
func (s *search) bodies(from guess, n int) iter.Seq[guess] {
	return func(yield func(guess) bool) {
		if n == 0 {
			yield(from)
			return
		}
		for _, change := range changes {
			if s.work > maxWork {
				return
			}
			s.work += transformCost * len(from.value)
			before := change.undo(from.value)
			if len(before) == 0 || len(before) > maxBody || bytes.Equal(before, from.value) {
				continue
			}
			for g := range s.bodies(from.and(before, change.Mistake), n-1) {
				if !yield(g) {
					return
				}
			}
		}
	}
}

func trimNewline(body []byte) []byte {
	if bytes.HasSuffix(body, []byte("\r\n")) {
		return nil
	}
	return bytes.TrimRight(body, "\r\n")
}

func trimCRLF(body []byte) []byte {
	if !bytes.HasSuffix(body, []byte("\r\n")) {
		return nil
	}
	return bytes.TrimRight(body, "\r\n")
}

func ending(end string) func([]byte) []byte {
	return func(body []byte) []byte { return append(slices.Clone(body), end...) }
}

func toLF(body []byte) []byte { return bytes.ReplaceAll(body, []byte("\r\n"), []byte("\n")) }

func toCRLF(body []byte) []byte { return bytes.ReplaceAll(toLF(body), []byte("\n"), []byte("\r\n")) }

const mark = "\uFEFF"

func trimMark(text []byte) []byte { return bytes.TrimPrefix(text, []byte(mark)) }

func addMark(body []byte) []byte { return append([]byte(mark), trimMark(body)...) }

func fromString(body []byte) []byte {
	var text string
	if json.Unmarshal(body, &text) != nil {
		return nil
	}
	return []byte(text)
}

func fromChunks(body []byte) []byte {
	plain, err := dechunk(body)
	if err != nil {
		return nil
	}
	return plain
}

func fromGzip(body []byte) []byte {
	r, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil
	}
	return inflated(r)
}

func fromZlib(body []byte) []byte {
	r, err := zlib.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil
	}
	return inflated(r)
}

func inflated(r io.Reader) []byte {
	plain, err := io.ReadAll(io.LimitReader(r, maxBody+1))
	if err != nil {
		return nil
	}
	return plain
}

// fromForm also drops the name of a field.
func fromForm(body []byte) []byte {
	if i := bytes.IndexAny(body, "%="); i >= 0 && body[i] == '=' {
		body = body[i+1:]
	}
	if !bytes.HasPrefix(body, []byte("%7B")) && !bytes.HasPrefix(body, []byte("%7b")) {
		return nil
	}
	plain, err := url.QueryUnescape(string(body))
	if err != nil {
		return nil
	}
	return []byte(plain)
}

func fromEnvelope(body []byte) []byte {
	var e struct {
		Body            string `json:"body"`
		IsBase64Encoded bool   `json:"isBase64Encoded"`
	}
	if json.Unmarshal(body, &e) != nil {
		return nil
	}
	if !e.IsBase64Encoded {
		return []byte(e.Body)
	}
	plain, err := base64.StdEncoding.DecodeString(e.Body)
	if err != nil {
		return nil
	}
	return plain
}

// fromUTF16 needs a byte order mark, with which Windows writes UTF-16.
func fromUTF16(text []byte) []byte {
	var order binary.ByteOrder = binary.LittleEndian
	if bytes.HasPrefix(text, []byte{0xFE, 0xFF}) {
		order = binary.BigEndian
	} else if !bytes.HasPrefix(text, []byte{0xFF, 0xFE}) {
		return nil
	}
	var units []uint16
	for rest := text[2:]; len(rest) >= 2; rest = rest[2:] {
		units = append(units, order.Uint16(rest))
	}
	return []byte(string(utf16.Decode(units)))
}

// windows1252 has the characters of Windows-1252 that are control characters in
// Latin-1.
var windows1252 = []rune("€\u0081‚ƒ„…†‡ˆ‰Š‹Œ\u008dŽ\u008f\u0090‘’“”•–—˜™š›œ\u009džŸ")

func fromLatin1(body []byte) []byte {
	if utf8.Valid(body) {
		return nil
	}
	var text []byte
	for _, c := range body {
		r := rune(c)
		if c >= 0x80 && c < 0xA0 {
			r = windows1252[c-0x80]
		}
		text = utf8.AppendRune(text, r)
	}
	return text
}

func toLatin1(body []byte) []byte {
	var raw []byte
	for _, r := range string(body) {
		i := slices.Index(windows1252, r)
		switch {
		case i >= 0:
			r = 0x80 + rune(i)
		case r > 0xFF:
			return nil
		}
		raw = append(raw, byte(r))
	}
	return raw
}
