package sidecar

import (
	"context"
	"errors"
	"iter"
	"net"
	"strings"
	"sync"

	"github.com/p2p-sidecar/sidecar/clients/go/sidecarv1"
)

// Acceptor gives the streams that peers open for some protocols: a [net.Listener]. It outlives the sidecar's restarts.
//
// The sidecar announces them on the call that byte streams share, with what the peer has sent already. Where there is none
// such, or it has ended, it tells of each by a token, which takes it up.
type Acceptor struct {
	feed    feed
	turn    chan struct{} // held by whoever accepts: what follows is theirs
	waiting []*sidecarv1.IncomingStream
	coming  chan error // of streams that are fetched in the background, which until then has `waiting`
	address Addr
	number  uint64 // of this acceptor on the shared call

	mu        sync.Mutex
	announced []*Stream
	news      chan struct{} // there are some
}

// AcceptStreams accepts streams of some protocols, 1 to 64. It returns when that is in force; ErrAlreadyExists when
// somebody else accepts one of them. ctx holds for its whole life, but not for that of the streams.
func (c *Client) AcceptStreams(ctx context.Context, protocols ...string) (*Acceptor, error) {
	made := &Acceptor{
		turn: make(chan struct{}, 1), news: make(chan struct{}, 1), address: Addr{Protocol: strings.Join(protocols, ",")},
	}
	made.number = c.link.carrier.accept(made)
	made.feed = feed{
		link:   c.link,
		name:   "accepting " + strings.Join(protocols, ", "),
		method: sidecarv1.StreamService_AcceptStreams_FullMethodName,
		desc:   serverStreamCall,
		first:  func() any { return made.request(protocols) },
	}
	if err := made.feed.start(ctx); err != nil {
		c.link.carrier.acceptNoMore(made)
		return nil, err
	}
	context.AfterFunc(made.feed.ctx, func() { c.link.carrier.acceptNoMore(made) })
	return made, nil
}

// request is what opens a call. Where that is about to be done, it names the shared call, which is opened if need be.
func (a *Acceptor) request(protocols []string) *sidecarv1.AcceptStreamsRequest {
	request := &sidecarv1.AcceptStreamsRequest{Protocols: protocols}
	if a.feed.call != nil {
		request.Carrier = a.feed.link.carrier.name(a.feed.ctx)
	}
	if request.GetCarrier() != "" {
		request.Acceptor = a.number
	}
	return request
}

// announce is told of a stream that a peer has opened.
func (a *Acceptor) announce(made *Stream) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.announced = append(a.announced, made)
	signal(a.news)
}

// next takes up the next stream that has been announced; nil when there is none. Those that were lost with the sidecar are
// passed over: accepting goes on.
func (a *Acceptor) next() *Stream {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.announced) > 0 {
		next := a.announced[0]
		a.announced[0] = nil
		if a.announced = a.announced[1:]; len(a.announced) == 0 {
			a.announced = nil
		}
		next.mu.Lock()
		gone := next.lost
		next.mu.Unlock()
		if !gone {
			next.carrier.put(next.number, nil) // any frame takes it up
			return next
		}
	}
	return nil
}

// AcceptStream waits for the next stream. Streams of one peer come in the order in which they were opened. Taking it up is
// on its way when this returns: an error of that is told by [Stream.WaitOpen], or by the first Read.
func (a *Acceptor) AcceptStream() (*Stream, error) { return a.AcceptContext(context.Background()) }

// AcceptContext is AcceptStream until ctx ends. That does not end accepting, and loses no stream: one that comes meanwhile is
// given by the next call.
func (a *Acceptor) AcceptContext(ctx context.Context) (*Stream, error) {
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return nil, ofContext(ctx, a.feed.name)
	}
	for {
		if ctx.Err() != nil {
			return nil, ofContext(ctx, a.feed.name)
		}
		if a.feed.ended() == nil {
			if next := a.next(); next != nil {
				return next, nil
			}
		}
		if a.coming != nil || len(a.waiting) == 0 {
			err := a.fetch(ctx)
			if errors.Is(err, errFeedClosed) {
				failure := newError(ErrClosed, "accepting streams was ended here")
				failure.cause = net.ErrClosed
				return nil, failure
			}
			if err != nil {
				return nil, err
			}
			continue
		}
		next := a.waiting[0]
		a.waiting = a.waiting[1:]
		token := encoded(appendText(nil, 1, next.GetToken()))
		shared := encoded(appendText(nil, frameToken, next.GetToken()))
		made, _, err := a.feed.link.newStream(a.feed.app, sidecarv1.StreamService_AttachStream_FullMethodName, token, shared)
		if err != nil && lost(err) && a.feed.ended() == nil && a.feed.link.reconnect {
			continue // the sidecar is gone, and this stream with it; accepting goes on
		}
		if err != nil {
			return nil, err
		}
		made.mu.Lock()
		defer made.mu.Unlock()
		if !made.opened {
			made.peerID, made.protocol = next.GetPeerId(), next.GetProtocol()
		}
		return made, nil
	}
}

// fetch waits for streams: in the background for what the feed tells, so that ctx may end the waiting and not that.
func (a *Acceptor) fetch(ctx context.Context) error {
	if a.coming == nil {
		coming := make(chan error, 1)
		if !a.feed.link.spawn(func() {
			var response sidecarv1.AcceptStreamsResponse
			lost, err := a.feed.next(&response)
			if err == nil && !lost {
				a.waiting = response.GetStreams()
			}
			coming <- err
		}) {
			return a.feed.link.closedError()
		}
		a.coming = coming
	}
	select {
	case err := <-a.coming:
		a.coming = nil
		return err
	case <-a.news:
		return nil
	case <-ctx.Done():
		return ofContext(ctx, a.feed.name)
	}
}

// Accept is AcceptStream, for [net.Listener].
func (a *Acceptor) Accept() (net.Conn, error) {
	stream, err := a.AcceptStream()
	if err != nil {
		return nil, err // not stream, which would be an interface that is not nil
	}
	return stream, nil
}

// Streams gives the streams as they are opened. It ends without an error when the acceptor is closed; an error is the last
// thing that it gives.
func (a *Acceptor) Streams() iter.Seq2[*Stream, error] {
	return func(yield func(*Stream, error) bool) {
		for {
			stream, err := a.AcceptStream()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if !yield(stream, err) || err != nil {
				return
			}
		}
	}
}

// Close ends accepting. Streams that have been accepted go on.
func (a *Acceptor) Close() error {
	a.feed.close()
	return nil
}

// Addr names the protocols.
func (a *Acceptor) Addr() net.Addr { return a.address }
