package sidecar

import (
	"strconv"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
)

// bounds are what one request holds.
type bounds struct {
	bytes, messages int // of a batch
	largest         int // bytes of a message in a request of its own
}

const (
	maxRequest   = 4 << 20  // bytes of a request, of a sidecar that does not say
	leastRequest = 64 << 10 // that every sidecar takes
	requestHead  = 4096     // bytes left for what it says beside its messages: a topic of 1024 bytes, a peer, a protocol
	messageHead  = 96       // bytes of a message beside its data, with a request id of 64 bytes
)

var (
	usual = within(maxRequest)
	// cautious is for a server that has not said anything: batches that every one takes, and what is larger by itself.
	cautious = bounds{within(leastRequest).bytes, within(leastRequest).messages, usual.largest}
)

// within is for requests of at most so many bytes: three quarters are for data, one for what is around it.
func within(size int) bounds {
	room := max(size-requestHead, 1024)
	return bounds{min(frameBytes, room*3/4), min(frameMessages, max(room/4/messageHead, 1)), room - messageHead}
}

// tooLarge is the error of a message that no request to this sidecar can hold.
func (b bounds) tooLarge(size int) error {
	failure := newError(ErrTooLarge, "message of %d bytes, and a request to this sidecar holds one of at most %d", size, b.largest)
	failure.Reason, failure.Code = "TOO_LARGE", codes.InvalidArgument
	return failure
}

// limits are the bounds of the sidecar there.
type limits struct {
	said   atomic.Pointer[bounds] // nil until it has said so
	silent atomic.Bool            // it sent no headers within the time for them
}

// greeting is for how long a call waits for the server's headers: some send none before their first response.
var greeting = time.Second

// bounds are what a request may hold, as far as is known.
func (l *limits) bounds() bounds {
	switch said := l.said.Load(); {
	case said != nil:
		return *said
	case l.silent.Load():
		return cautious
	default:
		return usual
	}
}

// piece is how many bytes of a stream go in one request.
func (l *limits) piece() int {
	if said := l.said.Load(); said != nil {
		return said.bytes
	}
	return cautious.bytes
}

// note keeps what a call's header says about the bound on its requests.
func (l *limits) note(header metadata.MD) {
	if said := header.Get("sidecar-max-request"); len(said) > 0 {
		if size, err := strconv.Atoi(said[0]); err == nil {
			known := within(size)
			l.said.Store(&known)
			l.silent.Store(false)
		}
	}
}

// learn waits until a call that takes batches is in force, or has ended, of which its reader learns why.
func (l *limits) learn(call grpc.ClientStream) bounds {
	if l.silent.Load() {
		return l.bounds()
	}
	came := make(chan struct{})
	go func() { // until the call ends, at the latest
		defer close(came)
		if header, err := call.Header(); err == nil {
			l.note(header)
		}
	}()
	late := time.NewTimer(greeting)
	defer late.Stop()
	select {
	case <-came:
	case <-late.C:
		l.silent.Store(true)
	}
	return l.bounds()
}

// learnOnce is learn where nothing is known yet.
func (l *limits) learnOnce(call grpc.ClientStream) {
	if l.said.Load() == nil {
		l.learn(call)
	}
}
