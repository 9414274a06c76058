package sidecar

import (
	"testing"
	"time"
)

// FindTarget is where Connect would look.
func FindTarget(given string) (string, error) {
	found, err := findTarget(given)
	return found.text, err
}

// SetForbearance lets a test not wait so long.
func SetForbearance(t *testing.T, forbears time.Duration) {
	before := forbearance
	forbearance = forbears
	t.Cleanup(func() { forbearance = before })
}

// Waiting is how many messages wait in the client for the next batch.
func Waiting(c *Client) int { return waiting(&c.publish) + waiting(&c.send) }

func waiting[K comparable, R any](o *outbox[K, R]) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	count := 0
	for _, way := range o.lanes {
		count += len(way.waiting)
	}
	return count
}

// Waiting is how many requests wait for their turn.
func (s *Server) Waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiting)
}
