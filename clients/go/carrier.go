package sidecar

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/p2p-sidecar/sidecar/clients/go/sidecarv1"
)

// The fields of an OutgoingFrame and of an IncomingFrame.
const (
	frameStream     = 1
	frameOpen       = 2
	frameToken      = 3
	frameData       = 4
	frameCloseWrite = 5
	frameWindow     = 6
	frameReset      = 7

	cameOpened = 2
	cameData   = 3
	cameEnd    = 4
	cameWindow = 5
	cameDone   = 6
	cameStatus = 7
	cameFor    = 8

	streamWindow = 256 << 10 // bytes of one direction of a stream that may be under way at first, as the schema says
	wideWindow   = 1 << 20   // the same of a stream by which much comes: the sidecar waits less, and is told less often
	maxWide      = 64        // streams at once that may have so much waiting here
	streamPiece  = 64 << 10  // bytes of one stream before others have their turn
)

// carrier is the call that byte streams share. The first stream opens it, and it stays open. What is written while a request
// is being written goes in the next one. Its reader never waits for a stream: how much may wait is the streams' windows.
type carrier struct {
	link   *link
	absent absence
	turn   chan struct{} // held by whoever opens the call

	mu      sync.Mutex
	call    grpc.ClientStream // nil while there is none in force
	next    uint64            // the number of the next stream
	streams map[uint64]*Stream
	wide    map[uint64]struct{} // those with a wide window
	queue   []encoded           // not written
	sending bool                // somebody writes, and goes on until the queue is empty
	changed chan struct{}

	key       string // what AcceptStreams names the call by; empty where the sidecar announces nothing on it
	acceptors map[uint64]*Acceptor
	last      uint64 // the number of the last of them
}

func newCarrier(l *link) *carrier {
	return &carrier{
		link: l, turn: make(chan struct{}, 1), next: 1, streams: make(map[uint64]*Stream), wide: make(map[uint64]struct{}),
		changed: make(chan struct{}, 1), acceptors: make(map[uint64]*Acceptor),
	}
}

// join makes a stream one of the call's, which is opened where there is none. It is false where there is none to be had; old
// says that the call was there before.
func (c *carrier) join(ctx context.Context, made *Stream) (joined, old bool, err error) {
	old = true
	joined, err = c.within(ctx, func() bool { return c.add(made) }, func() { old = false })
	return joined, joined && old, err
}

// within does something with the call that is in force, once there is one; false where there is none to be had. try is
// false while there is none, opening is told when one is opened.
func (c *carrier) within(ctx context.Context, try func() bool, opening func()) (bool, error) {
	if !c.link.keeps || c.absent.known(c.link) {
		return false, nil
	}
	if try() {
		return true, nil
	}
	opening()
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return false, ofContext(ctx, "opening a stream")
	}
	for !try() {
		if c.absent.known(c.link) {
			return false, nil
		}
		if err := c.open(ctx); err != nil {
			if c.absent.note(c.link, err) {
				return false, nil
			}
			return false, err
		}
	}
	return true, nil
}

// name is what AcceptStreams names the call by, which is opened where there is none; empty where that cannot be.
func (c *carrier) name(ctx context.Context) (key string) {
	_, _ = c.within(ctx, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		key = c.key
		return c.call != nil
	}, func() {})
	return key
}

// accept numbers an acceptor. Streams that are announced for it are its own from then on.
func (c *carrier) accept(a *Acceptor) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last++
	c.acceptors[c.last] = a
	return c.last
}

// acceptNoMore is told that an acceptor has ended. The sidecar resets what has not been taken up.
func (c *carrier) acceptNoMore(a *Acceptor) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.acceptors, a.number)
}

// add gives a stream a number on the call that is in force; false when there is none.
func (c *carrier) add(made *Stream) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.call == nil {
		return false
	}
	made.carrier, made.number, made.room, made.window = c, c.next, streamWindow, streamWindow
	made.release = func() { c.drop(made) }
	c.streams[c.next] = made
	c.next++
	return true
}

// open begins the call and waits until it is in force.
func (c *carrier) open(ctx context.Context) error {
	const method, name = sidecarv1.StreamService_CarryStreams_FullMethodName, "opening a stream"
	life, release := c.link.join(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, release) // only until it is in force
	call, err := c.link.begin(life, ctx, bothStreamCall, method, name, bound(ctx))
	if err != nil {
		stop()
		release()
		return err
	}
	header, err := call.Header()
	if err == nil && len(header.Get("sidecar-stream")) == 0 { // it has been refused
		if err = call.RecvMsg(&encoded{}); err == nil {
			err = malformed(errors.New("an answer to nothing"))
		}
	}
	if !stop() {
		release()
		return ofContext(ctx, name)
	}
	if err != nil {
		release()
		return c.link.failure(ctx, err, name)
	}
	c.link.note(header)
	c.mu.Lock()
	c.call, c.queue, c.sending, c.key = call, nil, false, strings.Join(header.Get("sidecar-carrier"), "")
	c.mu.Unlock()
	if !c.link.spawn(func() {
		defer release()
		over := make(chan struct{})
		if !c.link.spawn(func() { c.write(call, over) }) {
			release()
		}
		err := c.read(call)
		close(over)
		c.end(call, err)
	}) {
		c.end(call, io.EOF)
		release()
		return c.link.closedError()
	}
	return nil
}

// end is told that a call has ended.
func (c *carrier) end(call grpc.ClientStream, err error) {
	c.mu.Lock()
	if c.call == call {
		c.call, c.key = nil, ""
	}
	left := c.streams
	c.streams, c.wide = make(map[uint64]*Stream), make(map[uint64]struct{})
	c.mu.Unlock()
	failure := c.link.failure(context.Background(), err, "a byte stream")
	for _, one := range left {
		one.mu.Lock()
		one.lost = true
		one.ended(failure)
		one.mu.Unlock()
	}
}

// drop is told that a stream has been given up: it is reset, unless it is over.
func (c *carrier) drop(gone *Stream) {
	c.mu.Lock()
	known := c.streams[gone.number] == gone
	delete(c.streams, gone.number)
	delete(c.wide, gone.number)
	c.mu.Unlock()
	if !known {
		return
	}
	c.put(gone.number, appendNumber(nil, frameReset, 1))
	go func() { // who drops it may hold its lock
		gone.mu.Lock()
		defer gone.mu.Unlock()
		gone.ended(gone.closedError())
	}()
}

// more is what the sidecar is told that it may send beyond what it knows of, when half of a stream's window has been taken:
// as much again and, the first time, what makes the window wide. The stream is locked.
func (c *carrier) more(s *Stream) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	more := s.taken
	s.taken = 0
	if s.window < wideWindow && len(c.wide) < maxWide && c.streams[s.number] == s {
		c.wide[s.number] = struct{}{}
		more += wideWindow - s.window
		s.window = wideWindow
	}
	return uint64(more)
}

// put has a frame written behind those before it, without waiting for that.
func (c *carrier) put(number uint64, said []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue = append(c.queue, outgoing(number, said))
	signal(c.changed)
}

// outgoing is a frame as a field of a request.
func outgoing(number uint64, said []byte) encoded {
	frame := append(appendNumber(make([]byte, 0, len(said)+11), frameStream, number), said...)
	return protowire.AppendBytes(protowire.AppendTag(make([]byte, 0, len(frame)+6), 1, protowire.BytesType), frame)
}

// send writes a frame, or leaves it to whoever is writing. An error says that the call has ended; the streams learn why.
func (c *carrier) send(frame encoded) error {
	c.mu.Lock()
	call := c.call
	if call == nil {
		c.mu.Unlock()
		return io.EOF
	}
	c.queue = append(c.queue, frame)
	c.mu.Unlock()
	return c.flush(call)
}

// flush writes the queue, unless somebody does.
func (c *carrier) flush(call grpc.ClientStream) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.call != call {
		return io.EOF
	}
	if c.sending {
		return nil
	}
	c.sending = true
	for len(c.queue) > 0 && c.call == call {
		request := c.request()
		c.mu.Unlock()
		err := call.SendMsg(request)
		c.mu.Lock()
		if err != nil {
			return err // nobody writes to this call any more
		}
	}
	if c.call == call {
		c.sending = false
	}
	return nil
}

// request takes out of the queue what goes together; locked.
func (c *carrier) request() encoded {
	most := c.link.piece()
	size, count := len(c.queue[0]), 1
	for count < len(c.queue) && size+len(c.queue[count]) <= most {
		size += len(c.queue[count])
		count++
	}
	request := c.queue[0]
	if count > 1 {
		request = make(encoded, 0, size)
		for _, frame := range c.queue[:count] {
			request = append(request, frame...)
		}
	}
	clear(c.queue[:count])
	if c.queue = c.queue[count:]; len(c.queue) == 0 {
		c.queue = nil
	}
	return request
}

// write writes what `put` has queued, until the call is over.
func (c *carrier) write(call grpc.ClientStream, over <-chan struct{}) {
	for {
		select {
		case <-c.changed:
		case <-over:
			return
		}
		if c.flush(call) != nil {
			return
		}
	}
}

// read hands out frames until the call ends, and says why it did.
func (c *carrier) read(call grpc.ClientStream) error {
	for {
		var raw encoded
		if err := call.RecvMsg(&raw); err != nil {
			return err
		}
		err := fields(raw, func(field protowire.Number, data []byte, _ uint64) error {
			if field != 1 {
				return nil
			}
			return c.came(data)
		})
		if err != nil {
			return err
		}
	}
}

// announced is a stream that a peer has opened; locked.
func (c *carrier) announced(number uint64) *Stream {
	made := &Stream{link: c.link, carrier: c, number: number, room: streamWindow, window: streamWindow}
	made.changed = sync.NewCond(&made.mu)
	made.release = func() { c.drop(made) }
	c.streams[number] = made
	return made
}

// came is one frame of the sidecar.
func (c *carrier) came(frame []byte) error {
	var stream, window, acceptor uint64
	var data []byte
	var opened *sidecarv1.OpenedStream
	var failure error
	end, done := false, false
	err := fields(frame, func(field protowire.Number, bytes []byte, number uint64) error {
		switch field {
		case frameStream:
			stream = number
		case cameOpened:
			opened = &sidecarv1.OpenedStream{}
			if err := proto.Unmarshal(bytes, opened); err != nil {
				return malformed(err)
			}
		case cameData:
			data = bytes
		case cameEnd:
			end = number != 0
		case cameWindow:
			window = number
		case cameDone:
			done = number != 0
		case cameStatus:
			var told spb.Status
			if err := proto.Unmarshal(bytes, &told); err != nil {
				return malformed(err)
			}
			failure = fromStatus(status.FromProto(&told))
		case cameFor:
			acceptor = number
		}
		return nil
	})
	if err != nil {
		return err
	}
	over := done || failure != nil
	c.mu.Lock()
	found := c.streams[stream]
	taker := c.acceptors[acceptor]
	if found == nil && taker != nil && opened != nil {
		found = c.announced(stream)
		defer taker.announce(found) // once it has what has come with it
	}
	if over {
		delete(c.streams, stream)
		delete(c.wide, stream)
	}
	c.mu.Unlock()
	if found == nil {
		return nil // it was given up meanwhile
	}
	found.mu.Lock()
	defer found.mu.Unlock()
	found.arrived(data, opened, end)
	found.room += int(window)
	if found.discard {
		found.took(len(data))
	}
	if over {
		found.ended(failure)
	}
	found.changed.Broadcast()
	return nil
}
