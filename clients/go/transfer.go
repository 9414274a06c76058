package sidecar

import (
	"cmp"
	"context"
	"errors"
	"io"
	"iter"
	"slices"
	"sort"
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
	span   func(receipts R) (first, count uint64)
	part   func(receipts R, offset, first, count uint64) R // so many of them from an offset on, numbered anew
	large  func(number uint64, detail string) R            // the receipt of a message that no request can hold
	join   func(last *R, next R) bool

	bounds bounds
	noted  sync.Mutex // guards known, and told is called under it
	known  []R

	mu     sync.Mutex
	buffer *[]byte // the next request
	bytes  int     // of payload in it
	count  int
	number uint64        // of the next message
	absent []uint64      // for each message that was not sent: how many had been sent before it
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

	ended := make(chan struct{}) // the call is over: nothing need be written any more
	var failure error
	go func() {
		defer close(ended)
		failure = t.read(call)
	}()
	t.bounds = t.link.learn(call)
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
	if err == nil && failure != nil {
		err = t.link.failure(ctx, failure, t.name)
	}
	return t.all(), err
}

// all is the receipts by number, as few as say it.
func (t *transfer[R]) all() []R {
	slices.SortStableFunc(t.known, func(a, b R) int {
		first, _ := t.span(a)
		second, _ := t.span(b)
		return cmp.Compare(first, second)
	})
	var ranges []R
	for _, next := range t.known {
		if len(ranges) == 0 || !t.join(&ranges[len(ranges)-1], next) {
			ranges = append(ranges, next)
		}
	}
	return ranges
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
	if len(data) > t.bounds.largest {
		t.omit(t.number-1, len(data))
		select {
		case <-ended:
			return false, false, nil
		default:
			return false, true, nil
		}
	}
	t.mu.Lock()
	for t.count > 0 && (t.bytes+len(data) > t.bounds.bytes || t.count >= t.bounds.messages) {
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

// omit answers for a message that no request can hold, in place of the sidecar: it would end the call for all others.
func (t *transfer[R]) omit(number uint64, size int) {
	t.mu.Lock()
	t.absent = append(t.absent, number-uint64(len(t.absent)))
	t.mu.Unlock()
	t.note(t.large(number, t.bounds.tooLarge(size).Error()))
}

// came is told of receipts by the sidecar's numbers, which are those of the messages that were sent to it.
func (t *transfer[R]) came(next R) {
	t.mu.Lock()
	absent := t.absent
	t.mu.Unlock()
	first, count := t.span(next)
	for offset := uint64(0); offset < count; {
		number := first + offset
		before := sort.Search(len(absent), func(i int) bool { return absent[i] > number })
		part := count - offset
		if before < len(absent) {
			part = min(part, absent[before]-number)
		}
		t.note(t.part(next, offset, number+uint64(before), part))
		offset += part
	}
}

func (t *transfer[R]) note(next R) {
	t.noted.Lock()
	defer t.noted.Unlock()
	if t.told != nil {
		t.told(next)
	}
	if len(t.known) == 0 || !t.join(&t.known[len(t.known)-1], next) {
		t.known = append(t.known, next)
	}
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
func (t *transfer[R]) read(call grpc.ClientStream) error {
	for {
		err := t.answer(call, t.came)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func signal(channel chan struct{}) {
	select {
	case channel <- struct{}{}:
	default:
	}
}
