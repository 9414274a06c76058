package sidecar

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
)

// inForce is in the initial metadata of a stream that is in force, not of one that is refused.
const inForce = "sidecar-stream"

// feed is a stream of the sidecar over as many calls as it takes. One goroutine at a time reads it; close may come from
// any.
type feed struct {
	link   *link
	name   string // what it is, for people
	method string
	desc   *grpc.StreamDesc

	first   func() any           // the request that opens a call, from where the last one ended
	greeted func(encoded) error  // takes the first response, where it comes at once: then opening waits for it
	opened  func(*call)          // told when a call is in force; may be nil
	over    func()               // told when a call has ended; may be nil
	another func(err error) bool // whether a call that ended so is made again, beside lost and passing ones; may be nil
	inOrder func()               // told of a call's end in order, which then ends the feed; nil: the sidecar is going

	app    context.Context // the app's
	ctx    context.Context // ends with that, with the client, and by close
	cancel context.CancelFunc

	mu      sync.Mutex
	closing bool
	call    *call
	pauses  pauses
	refused time.Time // since when a feed that has been in force is refused; zero where it is not
	live    bool      // the call is in force
	taken   bool      // perhaps, by the sidecar: a call that was lost
	opens   int
	failed  error // what ended it
}

// call is one call of a feed.
type call struct {
	grpc.ClientStream
	release context.CancelFunc
}

// start prepares the feed and waits until it is in force. ctx holds for the whole life of the feed.
func (f *feed) start(ctx context.Context) error {
	if err := checkRequest(f.first()); err != nil {
		return err
	}
	f.prepare(ctx)
	if err := f.open(); err != nil {
		f.close()
		return err
	}
	return nil
}

func (f *feed) prepare(ctx context.Context) {
	f.app = ctx
	f.ctx, f.cancel = f.link.join(ctx)
}

// close ends the feed, as the app wants it.
func (f *feed) close() {
	f.mu.Lock()
	f.closing = true
	f.mu.Unlock()
	f.cancel()
}

// finish lets the feed end with the call that it has.
func (f *feed) finish() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closing = true
}

// closed tells whether the app has ended the feed.
func (f *feed) closed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.closing
}

// open waits until a call is in force, over as many tries as it takes.
func (f *feed) open() error {
	if f.failed != nil {
		return f.failed
	}
	for f.call == nil {
		err := f.try()
		if err == nil {
			f.opens++
			f.live = true
			f.refused = time.Time{}
			return nil
		}
		if err := f.again(err); err != nil {
			return err
		}
	}
	return nil
}

func (f *feed) try() error {
	if err := f.ended(); err != nil {
		return err
	}
	ctx, release := context.WithCancel(f.ctx)
	made, err := f.link.begin(ctx, f.app, f.desc, f.method, f.name, bound(f.app))
	if err != nil {
		release()
		return err
	}
	f.call = &call{made, release}
	if made.SendMsg(f.first()) == nil && !f.desc.ClientStreams { // else reading tells why
		_ = made.CloseSend()
	}
	header, err := made.Header()
	f.link.note(header)
	if err == nil && len(header.Get(inForce)) == 0 {
		var nothing encoded
		if err = made.RecvMsg(&nothing); err == nil {
			err = newError(ErrInternalError, "%s: what answers there is no sidecar, or one of another version", f.name)
		}
	}
	if err == nil && f.greeted != nil {
		var greeting encoded
		if err = made.RecvMsg(&greeting); err == nil {
			err = f.greeted(greeting)
		}
	}
	if err == nil {
		if f.opened != nil {
			f.opened(f.call)
		}
		return nil
	}
	return f.failure(err)
}

// next reads a response. It is true, without one, when the stream was lost and is in force again.
func (f *feed) next(response any) (bool, error) {
	if f.call == nil {
		before := f.opens
		if err := f.open(); err != nil {
			return false, err
		}
		if before > 0 {
			return true, nil
		}
	}
	err := f.call.RecvMsg(response)
	if err == nil {
		f.pauses.reset()
		return false, nil
	}
	if errors.Is(err, io.EOF) && f.inOrder != nil {
		f.inOrder()
		f.release()
		f.failed = f.failure(err)
		return false, f.failed
	}
	if err := f.again(f.failure(err)); err != nil {
		return false, err
	}
	if err := f.open(); err != nil {
		return false, err
	}
	return true, nil
}

// again is told how a call ended: nil when another is to be made, after a pause, else what ends the feed.
func (f *feed) again(failure error) error {
	back := f.opens > 0 && !f.live
	f.taken = f.taken || lost(failure)
	f.release()
	if err := f.ended(); err != nil {
		failure = err
	} else if f.link.reconnect && (lost(failure) || f.passing(failure, back) || f.another != nil && f.another(failure)) {
		pause := f.pauses.pause()
		f.link.logger.Info("sidecar stream lost; trying again", "stream", f.name, "error", failure, "in", pause)
		if f.wait(pause) {
			return nil
		}
		if failure = f.ended(); failure == nil {
			failure = f.link.closedError()
		}
	}
	f.failed = failure
	f.cancel()
	return failure
}

// forbearance is for how long a stream that has been in force is tried again though it is refused.
var forbearance = 10 * time.Second

// passing tells whether a feed that has been in force is refused for what may be over in a moment: tokens that are being
// replaced, and, when it comes back, a sidecar that has not noticed yet that the call before is gone.
func (f *feed) passing(failure error, back bool) bool {
	switch {
	case f.opens > 0 && errors.Is(failure, ErrUnauthenticated):
	case back && (errors.Is(failure, ErrAlreadyExists) || errors.Is(failure, ErrResourceExhausted)):
	case f.taken && errors.Is(failure, ErrAlreadyExists):
	default:
		return false
	}
	if f.refused.IsZero() {
		f.refused = time.Now()
	}
	return time.Since(f.refused) < forbearance
}

// release lets go of the call.
func (f *feed) release() {
	if f.call == nil {
		return
	}
	f.call.release()
	f.call, f.live = nil, false
	if f.over != nil {
		f.over()
	}
}

func (f *feed) wait(pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-f.ctx.Done():
		return false
	}
}

// errFeedClosed ends a feed that the app has closed.
var errFeedClosed = errors.New("closed by the app")

// ended says why the feed is to end from this side; nil when it is not.
func (f *feed) ended() error {
	switch {
	case f.closed():
		return errFeedClosed
	case f.app.Err() != nil:
		return ofContext(f.app, f.name)
	case f.link.ctx.Err() != nil:
		return f.link.closedError()
	}
	return nil
}

func (f *feed) failure(err error) error {
	if ended := f.ended(); ended != nil {
		return ended
	}
	return f.link.failure(f.app, err, f.name)
}
