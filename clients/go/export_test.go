package sidecar

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
