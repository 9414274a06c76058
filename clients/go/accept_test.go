package sidecar_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	sidecar "github.com/p2p-sidecar/sidecar/clients/go"
	pb "github.com/p2p-sidecar/sidecar/clients/go/sidecarv1"
)

const peersFirst = 1 << 32

// acceptance is the last request of AcceptStreams, once there have been so many.
func (f *fake) acceptance(count int) (last *pb.AcceptStreamsRequest) {
	until(func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.accepting) >= count {
			last = f.accepting[len(f.accepting)-1]
		}
		return last != nil
	})
	return last
}

func TestStreamsOfPeersAreAnnouncedOnTheSharedCall(t *testing.T) {
	f := newFake(t)
	served := carriesStreams(t, f)
	f.start()
	node := connected(t, f)
	first, err := node.AcceptStreams(t.Context(), "/first/1")
	noError(t, err)
	one := f.acceptance(1)
	second, err := node.AcceptStreams(t.Context(), "/echo/1")
	noError(t, err)
	two := f.acceptance(2)
	equal(t, "carrier", one.GetCarrier(), "the key")
	equal(t, "carrier", two.GetCarrier(), "the key")
	noError(t, echoOn(t.Context(), node, []byte("our own")))

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = second.AcceptContext(ctx)
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	for number := range uint64(3) {
		served.announce(peersFirst+number, two.GetAcceptor(), "early ")
	}
	served.announce(peersFirst+3, one.GetAcceptor(), "")
	for number := range uint64(3) {
		stream, err := second.AcceptStream()
		noError(t, err)
		noError(t, stream.WaitOpen(t.Context()))
		equal(t, "peer", stream.PeerID(), other)
		equal(t, "protocol", stream.Protocol(), "/echo/1")
		until(func() bool {
			served.mu.Lock()
			defer served.mu.Unlock()
			return served.taken[peersFirst+number]
		})
		_, err = stream.Write([]byte("and late"))
		noError(t, err)
		noError(t, stream.CloseWrite())
		all, err := io.ReadAll(stream)
		noError(t, err)
		equal(t, "bytes", string(all), "early and late")
		noError(t, stream.Close())
	}
	noError(t, first.Close())
	noError(t, second.Close())
	_, err = second.AcceptStream()
	if !errors.Is(err, net.ErrClosed) {
		t.Fatal(err)
	}
	equal(t, "calls", f.count("StreamService/CarryStreams"), 1)
	equal(t, "calls", f.count("StreamService/AttachStream"), 0)
}

func TestAStreamThatNobodyTookUpInTimeSaysSo(t *testing.T) {
	f := newFake(t)
	served := carriesStreams(t, f)
	f.start()
	node := connected(t, f)
	acceptor, err := node.AcceptStreams(t.Context(), "/echo/1")
	noError(t, err)
	served.announce(peersFirst, f.acceptance(1).GetAcceptor(), "")
	late, err := proto.Marshal(status.Convert(refused(codes.NotFound, "NOT_FOUND", "not in time", "", 0)).Proto())
	noError(t, err)
	served.mu.Lock()
	delete(served.open, peersFirst)
	served.said = append(served.said, &pb.IncomingFrame{Stream: peersFirst, Status: late})
	served.changed.Broadcast()
	served.mu.Unlock()
	stream, err := acceptor.AcceptStream()
	noError(t, err)
	_, err = stream.Read(make([]byte, 1))
	wantError(t, err, sidecar.ErrNotFound)
	stream.Reset()
	noError(t, acceptor.Close())
}

func TestAcceptingGoesOnWhenTheSidecarComesBack(t *testing.T) {
	f := newFake(t)
	served := carriesStreams(t, f)
	f.start()
	node := connected(t, f)
	acceptor, err := node.AcceptStreams(t.Context(), "/echo/1")
	noError(t, err)
	served.announce(peersFirst, f.acceptance(1).GetAcceptor(), "x")
	accepted := make(chan *sidecar.Stream, 2)
	go func() {
		for stream := range acceptor.Streams() {
			accepted <- stream
		}
	}()
	gone := <-accepted
	f.restart()
	again := f.acceptance(2)
	equal(t, "carrier", again.GetCarrier(), "the key")
	served.announce(peersFirst, again.GetAcceptor(), "again")
	stream := <-accepted
	got := make([]byte, 5)
	_, err = io.ReadFull(stream, got)
	noError(t, err)
	equal(t, "bytes", string(got), "again")
	_, err = io.ReadAll(gone)
	wantError(t, err, sidecar.ErrSidecarUnavailable)
	gone.Reset()
	stream.Reset()
	noError(t, acceptor.Close())
}
