package sidecar

import (
	"cmp"
	"context"
	"errors"
	"io"
	"iter"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
)

// source is where the messages of a bulk call come from: one of the two.
type source struct {
	sequence iter.Seq[[]byte]
	channel  <-chan []byte
}

// transfer is one bulk call, for R receipts.
type transfer[R any] struct {
	link   *link
	method string
	name   string
	head   []byte           // the encoded beginning of the first request
	field  protowire.Number // of its messages
	id     func(number uint64) string
	told   func(R)
	answer func(call grpc.ClientStream, each func(R)) error // reads one response
	first  func(receipts R) uint64
	join   func(last *R, next R) bool

	mu     sync.Mutex
	buffer *[]byte // the next request
	bytes  int     // of payload in it
	count  int
	number uint64
	closed bool          // nothing follows
	some   chan struct{} // signalled when the next request is to be written
	room   chan struct{} // and when it has been taken
	rest   *time.Timer   // writes a request that is not full when a sequence gives no more for a while
}

// pauseForMore is how long a request that is not full waits for more of a sequence, of which nobody knows when it waits itself.
// A request for each message would cost twice as much.
const pauseForMore = time.Millisecond

// run writes all messages and returns the receipts for all of them, as few ranges as say it.
func (t *transfer[R]) run(ctx context.Context, messages source) ([]R, error) {
	if t.link.ctx.Err() != nil {
		return nil, t.link.closedError()
	}
	if ctx.Err() != nil {
		return nil, ofContext(ctx, t.name)
	}
	joined, release := t.link.join(ctx)
	defer release()
	call, err := t.link.begin(joined, ctx, bothStreamCall, t.method, t.name, bound(ctx))
	if err != nil {
		return nil, err
	}
	t.some, t.room = make(chan struct{}, 1), make(chan struct{}, 1)
	t.buffer = frames.Get(frameBytes)
	*t.buffer = append(*t.buffer, t.head...)
	t.rest = time.AfterFunc(time.Hour, func() { signal(t.some) })
	defer t.rest.Stop()

	var known []R
	ended := make(chan struct{}) // the call is over: nothing need be written any more
	var failure error
	go func() {
		defer close(ended)
		known, failure = t.read(call)
	}()
	written := make(chan struct{})
	go func() {
		defer close(written)
		t.write(call, ended)
	}()

	err = t.gather(messages, ended)
	if err != nil {
		release() // the call must not look as if this had been all
	}
	t.close()
	<-written
	<-ended
	slices.SortStableFunc(known, func(a, b R) int { return cmp.Compare(t.first(a), t.first(b)) })
	if err == nil && failure != nil {
		err = t.link.failure(ctx, failure, t.name)
	}
	return known, err
}

// gather takes the messages as they come, until there are no more or the call has ended.
func (t *transfer[R]) gather(messages source, ended <-chan struct{}) error {
	if messages.channel == nil {
		for data := range messages.sequence {
			first, more, err := t.add(data, ended)
			if !more {
				return err
			}
			if first {
				t.rest.Reset(pauseForMore)
			}
		}
		return nil
	}
	for {
		var data []byte
		var ok bool
		select {
		case data, ok = <-messages.channel:
		default:
			signal(t.some) // there are no more for now
			select {
			case data, ok = <-messages.channel:
			case <-ended:
				return nil
			}
		}
		if !ok {
			return nil
		}
		if _, more, err := t.add(data, ended); !more {
			return err
		}
	}
}

// add puts a message into the next request, waiting while that is full. more is false when no more are wanted, first tells
// whether it is the first message there.
func (t *transfer[R]) add(data []byte, ended <-chan struct{}) (first, more bool, err error) {
	id := ""
	if t.id != nil {
		if id = t.id(t.number); len(id) > 64 || !utf8.ValidString(id) {
			return false, false, badField("request_id", "a request id has at most 64 bytes of UTF-8; that of message %d has %d",
				t.number, len(id))
		}
	}
	t.number++
	t.mu.Lock()
	for t.count > 0 && (t.bytes+len(data) > frameBytes || t.count >= frameMessages) {
		t.mu.Unlock()
		signal(t.some)
		select {
		case <-t.room:
		case <-ended:
			return false, false, nil
		}
		t.mu.Lock()
	}
	*t.buffer = appendOutgoing(*t.buffer, t.field, data, id)
	t.bytes += len(data)
	t.count++
	first = t.count == 1
	t.mu.Unlock()
	if first {
		select {
		case <-ended:
			return true, false, nil
		default:
		}
	}
	return first, true, nil
}

func (t *transfer[R]) close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	signal(t.some)
}

// write sends what has been gathered, as often as it is told to.
func (t *transfer[R]) write(call grpc.ClientStream, ended <-chan struct{}) {
	for {
		select {
		case <-t.some:
		case <-ended:
			return
		}
		t.mu.Lock()
		buffer, count, closed := t.buffer, t.count, t.closed
		if count > 0 || closed {
			t.buffer, t.bytes, t.count = frames.Get(frameBytes), 0, 0
		}
		t.mu.Unlock()
		signal(t.room)
		if (count > 0 || closed) && len(*buffer) > 0 {
			if call.SendMsg(frame{buffer}) != nil {
				return // the reader learns why
			}
		}
		if closed {
			_ = call.CloseSend()
			return
		}
	}
}

// read collects the receipts until the call ends.
func (t *transfer[R]) read(call grpc.ClientStream) ([]R, error) {
	var known []R
	for {
		err := t.answer(call, func(next R) {
			if t.told != nil {
				t.told(next)
			}
			if len(known) == 0 || !t.join(&known[len(known)-1], next) {
				known = append(known, next)
			}
		})
		if errors.Is(err, io.EOF) {
			return known, nil
		}
		if err != nil {
			return known, err
		}
	}
}

func signal(channel chan struct{}) {
	select {
	case channel <- struct{}{}:
	default:
	}
}

// checkText finds texts that protobuf does not take.
func checkText(field, text string) error {
	if utf8.ValidString(text) {
		return nil
	}
	return badField(field, "%s is not UTF-8", field)
}
