package sidecar

import (
	"context"
	"sync"
)

const (
	mostWaiting = 32 << 20 // bytes of messages that wait in the client, for each of publishing, sending and asking
	messageCost = 512      // what a message counts beside its data: 65,536 wait at most, about what they take
)

// quota bounds what waits in the client. Who comes when it is full waits for room, in order. Its owner's lock guards it.
type quota struct {
	used    int
	waiting []*admission
}

type admission struct {
	cost    int
	granted chan struct{}
}

// costOf is what a message counts. One that is larger than all there is takes all.
func costOf(data []byte) int { return min(len(data)+messageCost, mostWaiting) }

// take waits until there is room. mu, which is locked, is unlocked meanwhile.
func (q *quota) take(ctx context.Context, mu *sync.Mutex, l *link, cost int, name string) error {
	if len(q.waiting) == 0 && q.used+cost <= mostWaiting {
		q.used += cost
		return nil
	}
	mine := &admission{cost, make(chan struct{})}
	q.waiting = append(q.waiting, mine)
	mu.Unlock()
	var err error
	select {
	case <-mine.granted:
	case <-ctx.Done():
		err = ofContext(ctx, name)
	case <-l.ctx.Done():
		err = l.closedError()
	}
	mu.Lock()
	if err == nil {
		return nil
	}
	for index, other := range q.waiting {
		if other == mine {
			q.waiting = append(q.waiting[:index], q.waiting[index+1:]...)
			q.admit()
			return err
		}
	}
	q.give(cost) // it was granted at the same time
	return err
}

// give is told that a message waits no more.
func (q *quota) give(cost int) {
	q.used -= cost
	q.admit()
}

func (q *quota) admit() {
	for len(q.waiting) > 0 && q.used+q.waiting[0].cost <= mostWaiting {
		next := q.waiting[0]
		q.waiting[0] = nil
		q.waiting = q.waiting[1:]
		q.used += next.cost
		close(next.granted)
	}
}
