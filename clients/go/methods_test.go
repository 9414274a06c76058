package sidecar_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	sidecar "github.com/p2p-sidecar/sidecar/clients/go"
	pb "github.com/p2p-sidecar/sidecar/clients/go/sidecarv1"
)

func equal(t *testing.T, what string, got, wanted any) {
	t.Helper()
	if !reflect.DeepEqual(got, wanted) {
		t.Errorf("%s: %+v, not %+v", what, got, wanted)
	}
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestNodeMethods(t *testing.T) {
	node := connected(t, started(t))
	info, err := node.Info(t.Context())
	noError(t, err)
	equal(t, "info", info, sidecar.NodeInfo{
		PeerID: me, Network: "test", Agent: "fake/1", Version: "0.1.0", ListeningAddresses: []string{"/ip4/127.0.0.1/tcp/1"},
		StartTime: time.Unix(1000, 5).UTC(), Uptime: 3 * time.Second, APIEngine: "http2",
		Reachability: sidecar.ReachabilityConfirmed,
		Addresses: []sidecar.AddressReachability{{
			Address: "/ip4/192.0.2.1/tcp/1", Reachability: sidecar.ReachabilityNotReachable, Source: "observed",
			Since: time.Unix(7, 0).UTC(), Proofs: 1, Failures: 3,
		}},
		PortMapping: sidecar.PortMapping{
			State: "mapped", Message: "M", Remedy: "R", Gateway: "192.168.1.1", Protocol: "pcp",
			Ports: []sidecar.MappedPort{
				{Address: "/ip4/192.0.2.1/tcp/2", Port: 1, ExpireTime: time.Unix(9, 0).UTC()},
				{Address: "/ip4/192.0.2.1/tcp/3", Port: 2},
			},
		},
	})
	ready := sidecar.Readiness{Ready: true, Conditions: []sidecar.Condition{
		{Type: "Listening", Met: true, Reason: "R", Message: "M", Remedy: "do it", Since: time.Unix(7, 0).UTC()},
	}}
	got, err := node.Readiness(t.Context())
	noError(t, err)
	equal(t, "readiness", got, ready)
	got, err = node.Ready(t.Context())
	noError(t, err)
	equal(t, "ready", got, ready)
	statistics, err := node.Statistics(t.Context())
	noError(t, err)
	equal(t, "statistics", statistics, sidecar.Statistics{
		Values: map[string]float64{"gossip_delivered": 3},
		Histograms: map[string]sidecar.Histogram{
			"lag_seconds": {UpperBounds: []float64{0.5, 1}, Counts: []uint64{3, 0, 1}, Sum: 2.5},
		},
	})
	configuration, err := node.Configuration(t.Context())
	noError(t, err)
	equal(t, "configuration", configuration, []sidecar.ConfigurationEntry{
		{Name: "gossip.degree", Value: "8", Source: "$SIDECAR_GOSSIP_DEGREE", Reloadable: true},
		{Name: "node.network", Value: `"main"`, Source: "default"},
	})
}

func TestPeerMethods(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	asked := []string{}
	f.listPeers = func(request *pb.ListPeersRequest) *pb.ListPeersResponse {
		asked = append(asked, fmt.Sprint(request.GetConnectedOnly(), request.GetProtocol(), request.GetPageToken()))
		page := len(asked)
		response := &pb.ListPeersResponse{Peers: []*pb.Peer{{PeerId: fmt.Sprint("peer", page)}}}
		if page < 3 {
			response.NextPageToken = fmt.Sprint("page", page)
		}
		return response
	}
	var found []string
	for peer, err := range node.Peers(t.Context(), sidecar.WithConnectedOnly(), sidecar.WithProtocol("/x/1")) {
		noError(t, err)
		found = append(found, peer.PeerID)
	}
	equal(t, "peers", found, []string{"peer1", "peer2", "peer3"})
	equal(t, "pages", asked, []string{"true/x/1", "true/x/1page1", "true/x/1page2"})

	known, err := node.Peer(t.Context(), other)
	noError(t, err)
	equal(t, "known", known, sidecar.Peer{PeerID: other, Protocols: []string{"/x/1"}, Protected: true})
	_, err = node.Peer(t.Context(), me)
	wantError(t, err, sidecar.ErrNotFound)

	addresses, err := node.FindPeer(t.Context(), other)
	noError(t, err)
	equal(t, "addresses", addresses, []string{"/ip4/127.0.0.1/tcp/2"})
	_, err = node.FindPeer(t.Context(), me)
	wantError(t, err, sidecar.ErrNotFound)

	peer, err := node.ConnectPeer(t.Context(), other, "/ip4/127.0.0.1/tcp/2")
	noError(t, err)
	equal(t, "peer", peer, sidecar.Peer{
		PeerID: other, Connected: true, Direction: sidecar.DirectionOutbound, Addresses: []string{"/ip4/127.0.0.1/tcp/2"},
		Latency: 2 * time.Millisecond, ConnectTime: time.Unix(9, 0).UTC(), Connections: 1,
	})
	noError(t, node.DisconnectPeer(t.Context(), other))
	latency, err := node.PingPeer(t.Context(), other)
	noError(t, err)
	equal(t, "latency", latency, time.Millisecond)
}

func TestClosestPeers(t *testing.T) {
	node := connected(t, started(t))
	there := []string{"/ip4/127.0.0.1/tcp/3"}
	peers, err := node.ClosestPeers(t.Context(), "key", sidecar.WithLimit(2))
	noError(t, err)
	equal(t, "close to a key", peers, []sidecar.FoundPeer{{PeerID: "key0", Addresses: there}, {PeerID: "key1", Addresses: there}})
	peers, err = node.ClosestPeers(t.Context(), "", sidecar.WithPeerID(other), sidecar.WithLimit(1))
	noError(t, err)
	equal(t, "close to a peer", peers, []sidecar.FoundPeer{{PeerID: other + "0", Addresses: there}})
	peers, err = node.ClosestPeers(t.Context(), "key")
	noError(t, err)
	equal(t, "none", len(peers), 0)
	_, err = node.ClosestPeers(t.Context(), "")
	wantError(t, err, sidecar.ErrInvalidArgument)
}

func TestDiscoveryMethods(t *testing.T) {
	node := connected(t, started(t))
	var found []sidecar.FoundPeer
	for peer, err := range node.FindPeers(t.Context(), "games", sidecar.WithLimit(2)) {
		noError(t, err)
		found = append(found, peer)
	}
	equal(t, "found", found, []sidecar.FoundPeer{
		{PeerID: "games0", Addresses: []string{"/ip4/127.0.0.1/tcp/3"}}, {PeerID: "games1", Addresses: []string{"/ip4/127.0.0.1/tcp/3"}},
	})
	receipt, err := node.PutRecord(t.Context(), "/app/x", []byte("value"))
	noError(t, err)
	equal(t, "receipt", receipt, sidecar.RecordReceipt{Stored: 1, Asked: 2})
	_, err = node.PutRecord(t.Context(), "/app/x", []byte("value"), sidecar.WithQuorum(2))
	wantError(t, err, sidecar.ErrNoQuorum)
	record, err := node.GetRecord(t.Context(), "/app/x", sidecar.WithQuorum(4))
	noError(t, err)
	equal(t, "record", record, sidecar.Record{
		Value: []byte("/app/x"), Holders: 4, ExpiresAt: time.Unix(5, 0).UTC(), Publisher: me, Sequence: 8,
	})
}

func TestTopicMethods(t *testing.T) {
	f := started(t)
	var request *pb.PublishRequest
	f.publish = func(_ context.Context, given *pb.PublishRequest) (*pb.PublishResponse, error) {
		request = given
		return &pb.PublishResponse{Receipt: &pb.PublishReceipt{
			Outcome: pb.PublishOutcome_PUBLISH_OUTCOME_SENT, MessageId: []byte("id"), Peers: 3, Dropped: 1,
		}}, nil
	}
	node := connected(t, f)
	receipt, err := node.Publish(t.Context(), "n\u00f6ws", []byte("hello"), sidecar.WithSigning(sidecar.SigningStrictNoSign),
		sidecar.WithMinimumPeers(3), sidecar.WithRequestID("one"))
	noError(t, err)
	equal(t, "receipt", receipt, sidecar.PublishReceipt{
		Outcome: sidecar.PublishSent, MessageID: []byte("id"), Peers: 3, Dropped: 1,
	})
	equal(t, "request", []any{request.GetTopic(), string(request.GetData()), request.GetSigning(), request.GetMinimumPeers(), request.GetRequestId()},
		[]any{"n\u00f6ws", "hello", pb.Signing_SIGNING_STRICT_NO_SIGN, uint32(3), "one"})
	topics, err := node.Topics(t.Context())
	noError(t, err)
	equal(t, "topics", topics, []sidecar.Topic{
		{Name: "news", Subscribed: true, Signing: sidecar.SigningStrictSign, Peers: 2, MeshPeerIDs: []string{other}, HistoryMessages: 4,
			Delivered: 5, Published: 6, Duplicates: 7, Rejected: 8, Dropped: 9, DeliveredBytes: 10, PublishedBytes: 11,
			Ignored: 12, Validators: 13, Unjudged: 14},
	})
	for _, bad := range []error{
		second(node.Publish(t.Context(), "\xff", nil)),
		second(node.Publish(t.Context(), "news", nil, sidecar.WithRequestID(string(make([]byte, 65))))),
		second(node.Send(t.Context(), "\xff", "/x/1", nil)),
		second(node.Send(t.Context(), other, "\xff", nil)),
		second(node.PublishMany(t.Context(), "\xff", nil)),
		second(node.SendMany(t.Context(), other, "\xff", nil)),
		second(node.Subscribe(t.Context(), []string{"\xff"})),
		second(node.Request(t.Context(), "\xff", "/x/1", nil)),
		second(node.OpenStream(t.Context(), other, "\xff")),
	} {
		wantError(t, bad, sidecar.ErrInvalidArgument)
	}
}

func second[T any](_ T, err error) error { return err }

func TestNames(t *testing.T) {
	equal(t, "names", []string{
		sidecar.DirectionInbound.String(), sidecar.PeerIdentified.String(), sidecar.PeersReconnected.String(), sidecar.PeersLagged.String(),
		sidecar.SendNoSubscriber.String(), sidecar.PublishQueueFull.String(), sidecar.SigningStrictNoSign.String(),
		sidecar.OverflowEndStream.String(), sidecar.LagHistoryExceeded.String(), sidecar.LagReconnected.String(),
	}, []string{
		"INBOUND", "IDENTIFIED", "RECONNECTED", "LAGGED", "NO_SUBSCRIBER", "QUEUE_FULL", "STRICT_NO_SIGN", "END_STREAM", "HISTORY_EXCEEDED",
		"RECONNECTED",
	})
	equal(t, "lagged", sidecar.Lagged{Missed: 3, Known: true, Reason: sidecar.LagSlowReader}.String(),
		"missed 3 messages: this reader was too slow")
	equal(t, "lagged", sidecar.Lagged{Reason: sidecar.LagRestarted}.String(),
		"missed messages (how many is not known): the sidecar has restarted")
}

// ---------------------------------------------------------------- deadlines, cancelling, trying again

func TestDeadlineTravels(t *testing.T) {
	f := started(t)
	left := make(chan time.Duration, 1)
	f.pingPeer = func(ctx context.Context, _ *pb.PingPeerRequest) (*pb.PingPeerResponse, error) {
		deadline, ok := ctx.Deadline()
		if !ok {
			deadline = time.Time{}
		}
		left <- time.Until(deadline)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	node := connected(t, f)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := node.PingPeer(ctx, other)
	failure := wantError(t, err, sidecar.ErrDeadlineExceeded)
	if !errors.Is(err, context.DeadlineExceeded) || !failure.Timeout() || status.Code(err) != codes.DeadlineExceeded {
		t.Error(err)
	}
	if told := <-left; told <= 0 || told > 100*time.Millisecond {
		t.Error(told)
	}
}

func TestCancellingCancelsThere(t *testing.T) {
	f := started(t)
	begun, ended := make(chan struct{}), make(chan struct{})
	f.pingPeer = func(ctx context.Context, _ *pb.PingPeerRequest) (*pb.PingPeerResponse, error) {
		close(begun)
		<-ctx.Done()
		close(ended)
		return nil, ctx.Err()
	}
	node := connected(t, f)
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-begun
		cancel(errors.New("no longer wanted"))
	}()
	_, err := node.PingPeer(ctx, other)
	<-ended
	if !errors.Is(err, context.Canceled) || errors.Is(err, sidecar.ErrSidecar) || !errors.Is(err, context.Cause(ctx)) {
		t.Error(err)
	}
	_, err = node.PingPeer(ctx, other) // not even begun
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestOnlySafeCallsAreMadeAgain(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	f.getNode = func(context.Context) (*pb.GetNodeResponse, error) {
		f.getNode = nil
		return nil, status.Error(codes.Unavailable, "going")
	}
	if info, err := node.Info(t.Context()); err != nil || info.PeerID != me {
		t.Error(info, err)
	}
	pings := 0
	f.pingPeer = func(context.Context, *pb.PingPeerRequest) (*pb.PingPeerResponse, error) {
		pings++
		return nil, status.Error(codes.Unavailable, "going")
	}
	_, err := node.PingPeer(t.Context(), other)
	wantError(t, err, sidecar.ErrSidecarUnavailable)
	equal(t, "pings", pings, 1)
}

func TestACallWaitsForASidecarThatComesBack(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	f.server.Stop()
	untilItIsKnown(t, node)
	called := make(chan error, 1)
	go func() {
		_, err := node.PingPeer(t.Context(), other) // not safe to repeat, but it has not reached anybody
		called <- err
	}()
	f.start()
	noError(t, <-called)

	f.server.Stop()
	if err := untilItIsKnown(t, node); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// untilItIsKnown calls until the client has noticed that the sidecar is gone.
func untilItIsKnown(t *testing.T, node *sidecar.Client) error {
	t.Helper()
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, err := node.Info(ctx)
		cancel()
		if errors.Is(err, sidecar.ErrSidecarUnavailable) {
			return err
		}
		wantError(t, err, sidecar.ErrDeadlineExceeded)
	}
}

func TestAfterClose(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	begun := make(chan struct{})
	f.pingPeer = func(ctx context.Context, _ *pb.PingPeerRequest) (*pb.PingPeerResponse, error) {
		close(begun)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	called := make(chan error, 1)
	go func() {
		_, err := node.PingPeer(t.Context(), other)
		called <- err
	}()
	subscription, err := node.Subscribe(t.Context(), []string{"news"})
	noError(t, err)
	<-begun
	noError(t, node.Close())
	noError(t, node.Close())
	wantError(t, <-called, sidecar.ErrClosed)
	var ends []error
	for _, err := range subscription.Messages() {
		ends = append(ends, err)
	}
	if len(ends) != 1 || !errors.Is(ends[0], sidecar.ErrClosed) {
		t.Error(ends)
	}
	nothing := slices.Values([][]byte{})
	for _, err := range []error{
		second(node.Info(t.Context())),
		second(node.Publish(t.Context(), "news", nil)),
		second(node.Send(t.Context(), other, "/x/1", nil)),
		second(node.PublishMany(t.Context(), "news", nothing)),
		second(node.SendMany(t.Context(), other, "/x/1", nothing)),
		second(node.Subscribe(t.Context(), []string{"news"})),
		second(node.Receive(t.Context(), []string{"/x/1"})),
		second(node.Serve(t.Context(), []string{"/x/1"}, silent)),
		second(node.Validate(t.Context(), []string{"news"}, acceptAll)),
		second(node.OpenStream(t.Context(), other, "/x/1")),
		second(node.AcceptStreams(t.Context(), "/x/1")),
		second(node.Advertise(t.Context(), "x")),
		second(node.Ready(t.Context())),
	} {
		wantError(t, err, sidecar.ErrClosed)
	}
	for _, err := range node.FindPeers(t.Context(), "x") {
		wantError(t, err, sidecar.ErrClosed)
	}
	for _, err := range node.Probe(t.Context(), "x") {
		wantError(t, err, sidecar.ErrClosed)
	}
}
