package sidecar_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	sidecar "github.com/p2p-sidecar/sidecar/clients/go"
	pb "github.com/p2p-sidecar/sidecar/clients/go/sidecarv1"
)

const (
	carriedWindow = 256 << 10
	wideWindow    = 1 << 20
)

// carrying is a sidecar whose streams echo. It holds its clients to their windows, and keeps to its own.
type carrying struct {
	t       *testing.T
	mu      sync.Mutex
	changed *sync.Cond
	over    bool
	open    map[uint64]*carried
	opened  int
	refuse  error
	cut     chan error // ends a call
	said    []*pb.IncomingFrame
	taken   map[uint64]bool // streams of peers that have been taken up
	window  int             // bytes of the app that may be under way, from the first that are given back on
	given   int             // bytes that the app has told of most at once
}

// carried is one stream: what waits to be echoed.
type carried struct {
	waiting []byte
	room    int // that the app has given
	window  int // of the app that may be under way
	credit  int // that it has been given
	end     bool
	reset   bool
}

func carriesStreams(t *testing.T, f *fake) *carrying {
	made := &carrying{t: t, cut: make(chan error, 1), window: carriedWindow}
	made.changed = sync.NewCond(&made.mu)
	f.carryStreams = made.serve
	return made
}

func (c *carrying) serve(stream pb.StreamService_CarryStreamsServer) error {
	c.mu.Lock()
	c.open, c.over, c.taken = make(map[uint64]*carried), false, make(map[uint64]bool)
	c.mu.Unlock()
	if err := stream.SendHeader(metadata.Pairs("sidecar-stream", "open", "sidecar-carrier", "the key")); err != nil {
		return err
	}
	heard := make(chan error, 1)
	go func() {
		for {
			said, err := stream.Recv()
			if err != nil {
				heard <- err
				return
			}
			c.mu.Lock()
			for _, frame := range said.GetFrames() {
				c.heed(frame)
			}
			c.changed.Broadcast()
			c.mu.Unlock()
		}
	}()
	told := make(chan struct{})
	go func() {
		defer close(told)
		for {
			frames := c.next()
			if frames == nil || stream.Send(&pb.CarryStreamsResponse{Frames: frames}) != nil {
				return
			}
		}
	}()
	var err error
	select {
	case err = <-c.cut:
	case <-heard:
		err = stream.Context().Err()
	}
	c.mu.Lock()
	c.over = true
	c.changed.Broadcast()
	c.mu.Unlock()
	<-told
	return err
}

func (c *carrying) heed(frame *pb.OutgoingFrame) {
	if frame.GetOpen() != nil || frame.GetToken() != "" {
		c.open[frame.GetStream()] = &carried{room: carriedWindow, window: carriedWindow, credit: -1}
	}
	one := c.open[frame.GetStream()]
	if one == nil {
		return
	}
	c.taken[frame.GetStream()] = true
	one.waiting = append(one.waiting, frame.GetData()...)
	if len(one.waiting) > one.window {
		c.t.Errorf("stream %d sent %d bytes beyond its window", frame.GetStream(), len(one.waiting)-one.window)
	}
	if one.room += int(frame.GetWindow()); one.room > wideWindow {
		c.t.Errorf("stream %d may be sent %d bytes", frame.GetStream(), one.room)
	}
	c.given = max(c.given, int(frame.GetWindow()))
	one.end = one.end || frame.GetCloseWrite()
	if frame.GetReset_() {
		one.reset = true
		delete(c.open, frame.GetStream())
	}
}

// announce tells an acceptor of a stream that a peer has opened.
func (c *carrying) announce(number, acceptor uint64, data string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open[number] = &carried{room: carriedWindow - len(data), window: carriedWindow}
	opened := &pb.OpenedStream{PeerId: other, Protocol: "/echo/1"}
	c.said = append(c.said, &pb.IncomingFrame{Stream: number, Opened: opened, Acceptor: acceptor, Data: []byte(data)})
	c.changed.Broadcast()
}

// next waits for frames to send; nil when the call is over.
func (c *carrying) next() []*pb.IncomingFrame {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.over {
		frames := c.said
		c.said = nil
		for number, one := range c.open {
			frame := &pb.IncomingFrame{Stream: number}
			if one.credit < 0 {
				one.credit = 0
				c.opened++
				if c.refuse != nil {
					frame.Status, _ = proto.Marshal(status.Convert(c.refuse).Proto())
					delete(c.open, number)
					frames = append(frames, frame)
					continue
				}
				frame.Opened = &pb.OpenedStream{PeerId: other, Protocol: "/echo/1"}
			}
			size := min(len(one.waiting), one.room)
			frame.Data, one.waiting = one.waiting[:size:size], one.waiting[size:]
			one.room -= size
			frame.Window = uint32(size)
			if size > 0 && one.window < c.window {
				frame.Window += uint32(c.window - one.window)
				one.window = c.window
			}
			if one.end && len(one.waiting) == 0 {
				frame.End, frame.Done = true, true
				delete(c.open, number)
			}
			if proto.Size(frame) > 2+proto.Size(&pb.IncomingFrame{Stream: number}) || frame.Opened != nil || size > 0 || frame.GetDone() {
				frames = append(frames, frame)
			}
		}
		if len(frames) > 0 {
			return frames
		}
		c.changed.Wait()
	}
	return nil
}

func echoOn(ctx context.Context, node *sidecar.Client, data []byte) error {
	stream, err := node.OpenStream(ctx, other, "/echo/1")
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }()
	written := make(chan error, 1)
	go func() {
		_, err := stream.Write(data)
		written <- errors.Join(err, stream.CloseWrite())
	}()
	back, err := io.ReadAll(stream)
	if err := errors.Join(err, <-written); err != nil {
		return err
	}
	if !bytes.Equal(back, data) {
		return fmt.Errorf("%d bytes came back of %d, or others", len(back), len(data))
	}
	return nil
}

func TestAllStreamsOfAClientRideOneCall(t *testing.T) {
	f := newFake(t)
	carriesStreams(t, f)
	f.start()
	node := connected(t, f)
	noError(t, echoOn(t.Context(), node, []byte("hello")))
	noError(t, echoOn(t.Context(), node, bytes.Repeat([]byte("0123456789"), 300_000))) // several windows
	failures := make(chan error, 50)
	for number := range 50 {
		go func() { failures <- echoOn(t.Context(), node, bytes.Repeat([]byte{byte(number)}, 10_000)) }()
	}
	for range 50 {
		noError(t, <-failures)
	}
	equal(t, "calls", f.count("StreamService/CarryStreams"), 1)
	equal(t, "calls", f.count("StreamService/OpenStream"), 0)
}

func TestStreamsBecomeWideAndKeepToWhatTheSidecarGives(t *testing.T) {
	for _, window := range []int{carriedWindow, wideWindow} { // the first as sidecars gave that knew of no other
		f := newFake(t)
		served := carriesStreams(t, f)
		served.window = window
		f.start()
		node := connected(t, f)
		data := bytes.Repeat([]byte("0123456789"), 800_000)
		noError(t, echoOn(t.Context(), node, data[:carriedWindow/2-1]))
		served.mu.Lock()
		equal(t, "given", served.given, 0)
		served.mu.Unlock()
		noError(t, echoOn(t.Context(), node, data))
		served.mu.Lock()
		if served.given < wideWindow-carriedWindow/2 || served.given > wideWindow {
			t.Errorf("%d bytes given at once", served.given)
		}
		served.mu.Unlock()
		equal(t, "wide", sidecar.WideStreams(node), 0)
	}
}

func TestSoManyStreamsAreWideAtOnceAsThereArePlaces(t *testing.T) {
	f := newFake(t)
	served := carriesStreams(t, f)
	f.start()
	node := connected(t, f)
	data := make([]byte, carriedWindow/2)
	move := func(stream *sidecar.Stream) {
		_, err := stream.Write(data)
		noError(t, err)
		_, err = io.ReadFull(stream, make([]byte, len(data)))
		noError(t, err)
	}
	streams := make([]*sidecar.Stream, sidecar.MaxWide+1)
	for number := range streams {
		stream, err := node.OpenStream(t.Context(), other, "/echo/1")
		noError(t, err)
		move(stream)
		streams[number] = stream
	}
	equal(t, "wide", sidecar.WideStreams(node), sidecar.MaxWide)
	streams[0].Reset()
	equal(t, "wide", sidecar.WideStreams(node), sidecar.MaxWide-1)
	move(streams[sidecar.MaxWide])
	equal(t, "wide", sidecar.WideStreams(node), sidecar.MaxWide)
	served.cut <- refused(codes.Unavailable, "CLOSED", "the sidecar is stopping", "", 0)
	_, err := streams[1].Read(make([]byte, 1))
	wantError(t, err, sidecar.ErrClosed)
	equal(t, "wide", sidecar.WideStreams(node), 0)
}

func TestASlowStreamHoldsUpNoOther(t *testing.T) {
	f := newFake(t)
	carriesStreams(t, f)
	f.start()
	node := connected(t, f)
	slow, err := node.OpenStream(t.Context(), other, "/echo/1")
	noError(t, err)
	data := make([]byte, 2<<20)
	written := make(chan error, 1)
	go func() {
		_, err := slow.Write(data)
		written <- errors.Join(err, slow.CloseWrite())
	}()
	for range 20 {
		noError(t, echoOn(t.Context(), node, []byte("fast")))
	}
	select {
	case <-written:
		t.Fatal("nobody reads, and all has been written")
	default:
	}
	back, err := io.ReadAll(slow)
	noError(t, err)
	equal(t, "bytes", len(back), len(data))
	noError(t, <-written)
}

func TestWhatAStreamFailsWithIsItsOwn(t *testing.T) {
	f := newFake(t)
	served := carriesStreams(t, f)
	f.start()
	node := connected(t, f)
	kept, err := node.OpenStream(t.Context(), other, "/echo/1")
	noError(t, err)
	served.mu.Lock()
	served.refuse = refused(codes.Unimplemented, "NOT_SUPPORTED", "the peer does not speak it", "", 0)
	served.mu.Unlock()
	_, err = node.OpenStream(t.Context(), other, "/nobody/1")
	wantError(t, err, sidecar.ErrNotSupported)
	_, err = kept.Write([]byte("x"))
	noError(t, err)
	_, err = io.ReadFull(kept, make([]byte, 1))
	noError(t, err)
	kept.Reset()
	until(func() bool {
		served.mu.Lock()
		defer served.mu.Unlock()
		return len(served.open) == 0
	})
	equal(t, "calls", f.count("StreamService/CarryStreams"), 1)
}

func TestTheEndOfTheCallEndsItsStreamsAndTheNextOpensItAnew(t *testing.T) {
	f := newFake(t)
	served := carriesStreams(t, f)
	f.start()
	node := connected(t, f)
	for round := range 3 {
		stream, err := node.OpenStream(t.Context(), other, "/echo/1")
		noError(t, err)
		_, err = stream.Write([]byte("kept"))
		noError(t, err)
		_, err = io.ReadFull(stream, make([]byte, 2))
		noError(t, err)
		served.cut <- refused(codes.Unavailable, "CLOSED", "the sidecar is stopping", "", 0)
		_, err = io.ReadFull(stream, make([]byte, 2))
		noError(t, err)
		_, err = stream.Read(make([]byte, 1))
		wantError(t, err, sidecar.ErrClosed)
		_, err = stream.Write([]byte("x"))
		wantError(t, err, sidecar.ErrClosed)
		noError(t, stream.Close())
		equal(t, "calls", f.count("StreamService/CarryStreams"), round+1)
	}
	f.restart()
	until(func() bool { // the client has noticed
		_, err := node.Info(t.Context())
		return err == nil
	})
	noError(t, echoOn(t.Context(), node, []byte("again")))
}

func TestAnOlderSidecarGetsACallForEachStream(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	acceptor, err := node.AcceptStreams(t.Context(), "/echo/1")
	noError(t, err)
	for range 3 {
		stream, err := node.OpenStream(t.Context(), other, "/echo/1")
		noError(t, err)
		there, err := acceptor.AcceptStream()
		noError(t, err)
		noError(t, there.WaitOpen(t.Context()))
		stream.Reset()
		there.Reset()
	}
	equal(t, "calls", f.count("StreamService/OpenStream"), 3)
	equal(t, "calls", f.count("StreamService/AttachStream"), 3)
	equal(t, "calls", f.count("StreamService/CarryStreams"), 1) // to see whether it is there
	noError(t, acceptor.Close())
}

func TestAClosedClientLetsWhatWasWrittenLeave(t *testing.T) {
	f := newFake(t)
	served := carriesStreams(t, f)
	f.start()
	node := connected(t, f)
	stream, err := node.OpenStream(t.Context(), other, "/echo/1")
	noError(t, err)
	_, err = stream.Write(make([]byte, 2*carriedWindow+1))
	noError(t, err)
	noError(t, stream.Close())
	noError(t, node.Close())
	served.mu.Lock()
	defer served.mu.Unlock()
	equal(t, "open", len(served.open), 0)
}
