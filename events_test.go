package grantexhook_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"grantex.dev/grantexhook"
	"grantex.dev/grantexhook/internal/capture"
)

// fields decodes a body without any of the package's types.
func fields(t *testing.T, body []byte) (event, data map[string]any) {
	t.Helper()
	require.NoError(t, json.Unmarshal(body, &event))
	return event, event["data"].(map[string]any)
}

// normal returns v as JSON decodes it, with all times in UTC. Grantex writes ".000Z"
// where Go writes "Z".
func normal(t *testing.T, v any) any {
	t.Helper()
	b, err := json.Marshal(v)
	require.NoError(t, err)
	var m map[string]any
	require.NoError(t, json.Unmarshal(b, &m))
	for k, text := range m {
		if at, err := time.Parse(time.RFC3339Nano, asString(text)); err == nil {
			m[k] = at.UTC()
		}
	}
	return m
}

func asString(v any) string {
	s, _ := v.(string)
	return s
}

// TestEventsOfCaptures checks that every field of every recorded event arrives, and that
// the payloads have only fields that Grantex sends.
func TestEventsOfCaptures(t *testing.T) {
	for _, c := range capture.All() {
		t.Run(c.Name, func(t *testing.T) {
			var got any
			var d grantexhook.Dispatcher
			on[grantexhook.GrantCreated](&d, &got)
			on[grantexhook.GrantRevoked](&d, &got)
			on[grantexhook.TokenIssued](&d, &got)
			require.NoError(t, d.Dispatch(t.Context(), c.Body))

			event, data := fields(t, c.Body)
			require.Equal(t, event["id"], c.EventID)
			switch e := got.(type) {
			case grantexhook.Event[grantexhook.GrantCreated]:
				requireEvent(t, c, event, data, e)
			case grantexhook.Event[grantexhook.GrantRevoked]:
				requireEvent(t, c, event, data, e)
			case grantexhook.Event[grantexhook.TokenIssued]:
				requireEvent(t, c, event, data, e)
			default:
				t.Fatalf("no handler was called: %T", got)
			}
		})
	}
}

func on[T grantexhook.Payload](d *grantexhook.Dispatcher, got *any) {
	grantexhook.On(d, func(_ context.Context, e grantexhook.Event[T]) error {
		*got = e
		return nil
	})
}

func requireEvent[T grantexhook.Payload](t *testing.T, c capture.Recording, event, data map[string]any, got grantexhook.Event[T]) {
	t.Helper()
	require.Equal(t, c.EventID, got.ID)
	require.Equal(t, c.EventType, got.Type)
	require.Equal(t, c.EventType, got.Data.EventType())
	require.Equal(t, event["createdAt"], got.CreatedAt.Format("2006-01-02T15:04:05.000Z07:00"))
	require.Equal(t, normal(t, data), normal(t, got.Data))
}

func TestEventsAreWrittenAsTheyAreRead(t *testing.T) {
	c := capture.Named("grant.created.delegated")
	var e grantexhook.RawEvent
	require.NoError(t, json.Unmarshal(c.Body, &e))
	b, err := json.Marshal(e)
	require.NoError(t, err)
	require.Equal(t, string(c.Body), string(b))
}
