package main

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// maxSeconds is in the year 5138; what is more was meant as milliseconds.
const maxSeconds = 99_999_999_999

// parseTime reads RFC 3339, Unix seconds, or a duration from now.
func parseTime(text string, now time.Time) (time.Time, error) {
	if seconds, err := strconv.ParseInt(text, 10, 64); err == nil {
		if seconds < 0 || seconds > maxSeconds {
			return time.Time{}, usageError(fmt.Sprintf("%q is no time in Unix seconds", text), "milliseconds, or a unit such as in -10m left out?")
		}
		return time.Unix(seconds, 0), nil
	}
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(d), nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	return time.Time{}, usageError(fmt.Sprintf("%q is no time", text), "such as 2026-11-23T12:00:00Z, 1795435200 or -10m")
}

// seconds shows a number of them as a duration, as far as there is one so long.
func seconds(n int64) string {
	if n > math.MaxInt64/int64(time.Second) || n < math.MinInt64/int64(time.Second) {
		return fmt.Sprintf("%d s", n)
	}
	return (time.Duration(n) * time.Second).String()
}
