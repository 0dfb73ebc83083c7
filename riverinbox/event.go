package riverinbox

import (
	"encoding/json"
	"errors"
	"strings"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
)

// event is the job that River stores. Its fields, their names and Kind must not
// change, or events that were stored before an upgrade can't be read after it. The
// body is stored in base64, since PostgreSQL would rewrite JSON and reject some of it.
type event struct {
	ID   string `json:"id" river:"unique"`
	Type string `json:"type"`
	Body []byte `json:"body"`
}

// Kind implements [river.JobArgs].
func (event) Kind() string { return "grantex_event" }

// InsertOpts implements [river.JobArgsWithInsertOpts]. By default, River would store
// an event again that was given up or canceled.
func (event) InsertOpts() river.InsertOpts {
	return river.InsertOpts{
		Queue:      queue,
		UniqueOpts: river.UniqueOpts{ByArgs: true, ByState: rivertype.JobStates()},
	}
}

// parse returns the event in a body. Its errors don't quote the body. PostgreSQL can't
// store a NUL, so parse replaces it in the id and type. The body, which is what gets
// dispatched, stays as it is.
func parse(body []byte) (event, error) {
	var e struct{ ID, Type string }
	switch {
	case json.Unmarshal(body, &e) != nil:
		return event{}, errors.New("the body isn't an object with a string id and type")
	case e.ID == "" || e.Type == "":
		return event{}, errors.New("the id or type of the event is missing or empty")
	}
	return event{withoutNUL(e.ID), withoutNUL(e.Type), body}, nil
}

func withoutNUL(s string) string { return strings.ReplaceAll(s, "\x00", "\uFFFD") }
