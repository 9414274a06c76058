package sidecar

import (
	"context"
	"sync"

	"github.com/p2p-sidecar/sidecar/clients/go/sidecarv1"
)

const (
	mostSettlements = 4096 // in one call
	settlementBytes = 24   // of one in a request, beside its reason; a little more than that
)

// settling has settlements on their way: what is settled while a call is under way goes together with the next one.
type settling struct {
	link    *link
	mu      sync.Mutex
	waiting []*settled
	calling bool
}

// settled is one settlement, and whoever waits for what comes of it.
type settled struct {
	ctx     context.Context
	message *sidecarv1.Settlement
	done    chan struct{}
	fresh   bool
	err     error
}

// settle settles a delivery; false where it is stale.
func (s *settling) settle(ctx context.Context, message *sidecarv1.Settlement) (bool, error) {
	const name = "settling"
	if ctx.Err() != nil {
		return false, ofContext(ctx, name)
	}
	one := &settled{ctx: ctx, message: message, done: make(chan struct{})}
	s.mu.Lock()
	s.waiting = append(s.waiting, one)
	if !s.calling {
		if !s.link.spawn(s.run) {
			s.waiting = nil
			s.mu.Unlock()
			return false, s.link.closedError()
		}
		s.calling = true
	}
	s.mu.Unlock()
	select {
	case <-one.done:
		return one.fresh, one.err
	case <-ctx.Done():
		return false, ofContext(ctx, name)
	}
}

// run makes one call after the other until nothing waits.
func (s *settling) run() {
	for {
		batch := s.take()
		if batch == nil {
			return
		}
		request := &sidecarv1.SettleRequest{}
		for _, one := range batch {
			request.Settlements = append(request.Settlements, one.message)
		}
		var response sidecarv1.SettleResponse
		// A repeat after a lost connection finds what was settled stale: it may have been this that did it.
		err := s.link.unary(context.Background(), sidecarv1.DurableService_Settle_FullMethodName, request, &response, again)
		stale := make(map[uint64]bool, len(response.GetStale()))
		for _, id := range response.GetStale() {
			stale[id] = true
		}
		for _, one := range batch {
			one.fresh, one.err = err == nil && !stale[one.message.GetId()], err
			close(one.done)
		}
	}
}

// take is what goes together next: at most one of each delivery, since answers are told by its number. Nil when nothing waits.
func (s *settling) take() []*settled {
	most := s.link.bounds().bytes
	s.mu.Lock()
	defer s.mu.Unlock()
	var batch []*settled
	taken, size := 0, 0
	known := make(map[uint64]bool)
	for _, one := range s.waiting {
		size += settlementBytes + len(one.message.GetReject())
		if len(batch) == mostSettlements || known[one.message.GetId()] || len(batch) > 0 && size > most {
			break
		}
		taken++
		if one.ctx.Err() == nil { // else nobody waits for it any more
			known[one.message.GetId()] = true
			batch = append(batch, one)
		}
	}
	clear(s.waiting[:taken])
	s.waiting = s.waiting[taken:]
	if len(batch) == 0 {
		s.waiting, s.calling = nil, false
	}
	return batch
}
