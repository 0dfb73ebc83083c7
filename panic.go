package grantexhook

import (
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
)

// A PanicError is the error of a dispatch whose handler panicked, or whose payload
// panicked while it was decoded.
type PanicError struct {
	Value any    // the value passed to panic
	Stack []byte // the goroutine's, as [debug.Stack] returns it
}

// Error returns a text with the value but without the stack.
func (e *PanicError) Error() string {
	return fmt.Sprintf("grantexhook: handler panicked: %v", e.Value)
}

// Unwrap returns the value if it is an error, and otherwise nil.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// errNoReturn is for a handler that ends its goroutine, or whose panic isn't recovered.
var errNoReturn = errors.New("grantexhook: handler did not return")

// catch, when deferred, turns a panic into an error.
func catch(err *error) {
	switch v := recover(); v {
	case nil:
	case http.ErrAbortHandler:
		panic(v) // net/http expects it and doesn't log it
	default:
		*err = &PanicError{Value: v, Stack: debug.Stack()}
	}
}
