package sidecar

import (
	"sync"
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

// SetGreeting lets a test not wait so long for headers.
func SetGreeting(t *testing.T, waits time.Duration) {
	before := greeting
	greeting = waits
	t.Cleanup(func() { greeting = before })
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

// Crowd is how many callers wait for room to wait in.
func Crowd(c *Client) int {
	count := 0
	for _, one := range []struct {
		mu   *sync.Mutex
		room *quota
	}{{&c.publish.mu, &c.publish.room}, {&c.send.mu, &c.send.room}, {&c.asking.mu, &c.asking.room}} {
		one.mu.Lock()
		count += len(one.room.waiting)
		one.mu.Unlock()
	}
	return count
}

// Used is how much of the rooms is taken.
func Used(c *Client) int {
	count := 0
	for _, one := range []struct {
		mu   *sync.Mutex
		room *quota
	}{{&c.publish.mu, &c.publish.room}, {&c.send.mu, &c.send.room}, {&c.asking.mu, &c.asking.room}} {
		one.mu.Lock()
		count += one.room.used
		one.mu.Unlock()
	}
	return count
}

// Queued is how many requests are in the queue, those included that have been given up.
func Queued(c *Client) int {
	c.asking.mu.Lock()
	defer c.asking.mu.Unlock()
	return len(c.asking.queue)
}

// Settling is how many settlements wait for the next call.
func Settling(c *Client) int {
	c.settles.mu.Lock()
	defer c.settles.mu.Unlock()
	return len(c.settles.waiting)
}

// MaxWide is how many streams may have a wide window at once.
const MaxWide = maxWide

// WideStreams is how many have one.
func WideStreams(c *Client) int {
	c.link.carrier.mu.Lock()
	defer c.link.carrier.mu.Unlock()
	return len(c.link.carrier.wide)
}
