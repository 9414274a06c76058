package sidecar_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	pb "github.com/p2p-sidecar/sidecar/clients/go/sidecarv1"
)

// Nothing of a client may be left when it is closed: every test closes its own.
func TestMain(m *testing.M) { goleak.VerifyTestMain(&beside{m: m}) }

// beside runs the tests, and a sidecar for the examples beside them, where SIDECAR_API says.
type beside struct {
	m        *testing.M
	cleanups []func()
}

func (b *beside) Helper() {}

func (b *beside) TempDir() string {
	directory, err := os.MkdirTemp("", "examples-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(directory) })
	return directory
}

func (b *beside) Fatal(said ...any) { panic(fmt.Sprint(said...)) }

func (b *beside) Cleanup(last func()) { b.cleanups = append(b.cleanups, last) }

func (b *beside) Run() int {
	f := newFake(b)
	f.publish = func(_ context.Context, request *pb.PublishRequest) (*pb.PublishResponse, error) {
		f.deliver(request.GetTopic(), string(request.GetData()))
		return &pb.PublishResponse{Receipt: sent(request.GetData())}, nil
	}
	f.watchPeers = func(stream pb.PeerService_WatchPeersServer) error {
		if err := inForce(stream); err != nil {
			return err
		}
		events := []*pb.PeerEvent{
			{Type: pb.PeerEventType_PEER_EVENT_TYPE_PRESENT, Peer: &pb.Peer{PeerId: other, Connected: true}},
			{Type: pb.PeerEventType_PEER_EVENT_TYPE_CURRENT},
		}
		if err := stream.Send(&pb.WatchPeersResponse{Events: events}); err != nil {
			return err
		}
		<-stream.Context().Done()
		return nil
	}
	f.start()
	if err := os.Setenv("SIDECAR_API", f.path); err != nil {
		b.Fatal(err)
	}
	code := b.m.Run()
	for _, cleanup := range b.cleanups {
		cleanup()
	}
	return code
}
