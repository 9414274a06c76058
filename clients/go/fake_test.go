package sidecar_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	sidecar "github.com/p2p-sidecar/sidecar/clients/go"
	pb "github.com/p2p-sidecar/sidecar/clients/go/sidecarv1"
)

const (
	me    = "12D3KooWMe"
	other = "12D3KooWOther"
)

// fake is a sidecar that says what a test tells it to say. What is not set works in the simplest way: topics have a
// history, requests go to the app that serves, byte streams to the app that accepts.
type fake struct {
	pb.UnimplementedNodeServiceServer
	pb.UnimplementedPeerServiceServer
	pb.UnimplementedDirectServiceServer
	pb.UnimplementedPubSubServiceServer
	pb.UnimplementedStreamServiceServer
	pb.UnimplementedDiscoveryServiceServer
	pb.UnimplementedDurableServiceServer

	t       host
	path    string
	options []grpc.ServerOption
	server  *grpc.Server

	// What a test may set before it starts, or while nothing is under way.
	getNode      func(context.Context) (*pb.GetNodeResponse, error)
	publish      func(context.Context, *pb.PublishRequest) (*pb.PublishResponse, error)
	publishMany  func(pb.PubSubService_PublishManyServer) error
	send         func(context.Context, *pb.SendRequest) (*pb.SendResponse, error)
	sendMany     func(pb.DirectService_SendManyServer) error
	requestMany  func(pb.DirectService_RequestManyServer) error
	request      func(context.Context, *pb.RequestRequest) (*pb.RequestResponse, error)
	carryStreams func(pb.StreamService_CarryStreamsServer) error // nil: it is older
	subscribe    func(*pb.SubscribeRequest, pb.PubSubService_SubscribeServer) error
	receive      func(*pb.ReceiveRequest, pb.DirectService_ReceiveServer) error
	serve        func(pb.DirectService_ServeServer) error
	validate     func(pb.PubSubService_ValidateServer) error
	watchPeers   func(pb.PeerService_WatchPeersServer) error
	score        *pb.PeerScore
	scored       *pb.SetPeerScoreRequest // the last
	ruled        *pb.SetRulesRequest     // the last
	probe        func(*pb.ProbeRequest, pb.PubSubService_ProbeServer) error
	advertise    func(*pb.AdvertiseRequest, pb.DiscoveryService_AdvertiseServer) error
	maxRequest   int // bytes; 0: 4 MiB; below: it sends no headers of its own
	pingPeer     func(context.Context, *pb.PingPeerRequest) (*pb.PingPeerResponse, error)
	listPeers    func(*pb.ListPeersRequest) *pb.ListPeersResponse
	settle       func(context.Context, *pb.SettleRequest) (*pb.SettleResponse, error)
	watchOutbox  func(*pb.WatchOutboxRequest, pb.DurableService_WatchOutboxServer) error

	pieces atomic.Int64 // requests of streams that were opened

	mu       sync.Mutex
	calls    map[string]int
	epoch    uint32
	history  []*pb.TopicMessage
	more     chan struct{} // closed when the history grows
	serving  map[string]*desk
	accepted map[string]chan *pb.IncomingStream

	accepting []*pb.AcceptStreamsRequest
	pipes     map[string]*pipe
	tokens    int
}

// host is what starts a fake: a test, or TestMain for the examples.
type host interface {
	Helper()
	TempDir() string
	Fatal(...any)
	Cleanup(func())
}

func newFake(t host) *fake {
	t.Helper()
	made := &fake{
		t:        t,
		path:     filepath.Join(t.TempDir(), "api.sock"),
		calls:    make(map[string]int),
		more:     make(chan struct{}),
		serving:  make(map[string]*desk),
		accepted: make(map[string]chan *pb.IncomingStream),
		pipes:    make(map[string]*pipe),
	}
	return made
}

// started is a fake that runs until the test ends.
func started(t *testing.T) *fake {
	t.Helper()
	made := newFake(t)
	made.start()
	return made
}

func (f *fake) start() {
	f.t.Helper()
	listener, err := net.Listen("unix", f.path)
	if err != nil {
		f.t.Fatal(err)
	}
	f.serveOn(listener)
}

func (f *fake) serveOn(listener net.Listener) {
	f.mu.Lock()
	f.epoch++
	f.history = nil
	f.mu.Unlock()
	counted := func(method string) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.calls[method[len("/sidecar.v1."):]]++
	}
	options := append([]grpc.ServerOption{
		grpc.UnaryInterceptor(func(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			counted(info.FullMethod)
			return next(ctx, request)
		}),
		grpc.StreamInterceptor(func(served any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			counted(info.FullMethod)
			return next(served, stream)
		}),
	}, f.options...)
	server := grpc.NewServer(options...)
	pb.RegisterNodeServiceServer(server, f)
	pb.RegisterPeerServiceServer(server, f)
	pb.RegisterDirectServiceServer(server, f)
	pb.RegisterPubSubServiceServer(server, f)
	pb.RegisterStreamServiceServer(server, f)
	pb.RegisterDiscoveryServiceServer(server, f)
	pb.RegisterDurableServiceServer(server, f)
	f.server = server
	var running sync.WaitGroup
	running.Add(1)
	go func() {
		defer running.Done()
		_ = server.Serve(listener)
	}()
	f.t.Cleanup(func() {
		server.Stop()
		running.Wait()
	})
}

// restart ends every connection, and begins anew with nothing remembered.
func (f *fake) restart() {
	f.server.Stop()
	f.start()
}

func (f *fake) count(method string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[method]
}

// connected is a client of the fake, closed at the end of the test.
func connected(t *testing.T, f *fake, options ...sidecar.Option) *sidecar.Client {
	t.Helper()
	node, err := sidecar.Connect(t.Context(), append([]sidecar.Option{sidecar.WithTarget(f.path)}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := node.Close(); err != nil {
			t.Error(err)
		}
	})
	return node
}

// refused is an error as the sidecar makes them.
func refused(code codes.Code, reason, message, field string, retry time.Duration) error {
	made := status.New(code, message)
	made, err := made.WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: "sidecar"})
	if err == nil && field != "" {
		violation := &errdetails.BadRequest_FieldViolation{Field: field, Description: message}
		made, err = made.WithDetails(&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{violation}})
	}
	if err == nil && retry > 0 {
		made, err = made.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(retry)})
	}
	if err != nil {
		panic(err)
	}
	return made.Err()
}

func inForce(stream grpc.ServerStream) error {
	return stream.SendHeader(metadata.Pairs("sidecar-stream", "open"))
}

// ---------------------------------------------------------------- node and peers

func (f *fake) GetNode(ctx context.Context, _ *pb.GetNodeRequest) (*pb.GetNodeResponse, error) {
	if f.getNode != nil {
		return f.getNode(ctx)
	}
	return &pb.GetNodeResponse{Node: &pb.Node{
		PeerId:             me,
		Network:            "test",
		Agent:              "fake/1",
		Version:            "0.1.0",
		ListeningAddresses: []string{"/ip4/127.0.0.1/tcp/1"},
		StartTime:          timestamppb.New(time.Unix(1000, 5)),
		Uptime:             durationpb.New(3 * time.Second),
		ApiEngine:          "http2",
		Reachability:       pb.Reachability_REACHABILITY_CONFIRMED,
		Addresses: []*pb.AddressReachability{{
			Address: "/ip4/192.0.2.1/tcp/1", Reachability: pb.Reachability_REACHABILITY_NOT_REACHABLE, Source: "observed",
			Since: timestamppb.New(time.Unix(7, 0)), Proofs: 1, Failures: 3,
		}},
		PortMapping: &pb.PortMapping{
			State: "mapped", Message: "M", Remedy: "R", Gateway: "192.168.1.1", Protocol: "pcp",
			Ports: []*pb.MappedPort{
				{Address: "/ip4/192.0.2.1/tcp/2", Port: 1, ExpireTime: timestamppb.New(time.Unix(9, 0))},
				{Address: "/ip4/192.0.2.1/tcp/3", Port: 2},
			},
		},
	}}, nil
}

func readiness(ready bool) *pb.Readiness {
	return &pb.Readiness{Ready: ready, Conditions: []*pb.Condition{
		{Type: "Listening", Met: ready, Reason: "R", Message: "M", Remedy: "do it", Since: timestamppb.New(time.Unix(7, 0))},
	}}
}

func (f *fake) GetReadiness(context.Context, *pb.GetReadinessRequest) (*pb.GetReadinessResponse, error) {
	return &pb.GetReadinessResponse{Readiness: readiness(true)}, nil
}

func (f *fake) WatchReadiness(_ *pb.WatchReadinessRequest, stream pb.NodeService_WatchReadinessServer) error {
	if err := inForce(stream); err != nil {
		return err
	}
	for _, ready := range []bool{false, true} {
		if err := stream.Send(&pb.WatchReadinessResponse{Readiness: readiness(ready)}); err != nil {
			return err
		}
	}
	<-stream.Context().Done()
	return nil
}

func (f *fake) GetStatistics(context.Context, *pb.GetStatisticsRequest) (*pb.GetStatisticsResponse, error) {
	histogram := &pb.Histogram{Name: "lag_seconds", UpperBounds: []float64{0.5, 1}, Counts: []uint64{3, 0, 1}, Sum: 2.5}
	return &pb.GetStatisticsResponse{
		Values: map[string]float64{"gossip_delivered": 3}, Histograms: []*pb.Histogram{histogram},
	}, nil
}

func (f *fake) ListPeers(_ context.Context, request *pb.ListPeersRequest) (*pb.ListPeersResponse, error) {
	return f.listPeers(request), nil
}

func (f *fake) WatchPeers(_ *pb.WatchPeersRequest, stream pb.PeerService_WatchPeersServer) error {
	return f.watchPeers(stream)
}

func (f *fake) GetConfiguration(context.Context, *pb.GetConfigurationRequest) (*pb.GetConfigurationResponse, error) {
	return &pb.GetConfigurationResponse{Entries: []*pb.ConfigurationEntry{
		{Name: "gossip.degree", Value: "8", Source: "$SIDECAR_GOSSIP_DEGREE", Reloadable: true},
		{Name: "node.network", Value: `"main"`, Source: "default"},
	}}, nil
}

func (f *fake) GetPeer(_ context.Context, request *pb.GetPeerRequest) (*pb.GetPeerResponse, error) {
	if request.GetPeerId() != other {
		return nil, refused(codes.NotFound, "NOT_FOUND", "it is not known here", "", 0)
	}
	return &pb.GetPeerResponse{Peer: &pb.Peer{PeerId: other, Protocols: []string{"/x/1"}, Protected: true, Score: f.score}}, nil
}

func (f *fake) ListClosestPeers(
	_ context.Context, request *pb.ListClosestPeersRequest,
) (*pb.ListClosestPeersResponse, error) {
	given := string(request.GetKey()) + request.GetPeerId()
	if given == "" {
		return nil, refused(codes.InvalidArgument, "INVALID_ARGUMENT", "neither a key nor a peer id", "key", 0)
	}
	response := &pb.ListClosestPeersResponse{}
	for number := range request.GetLimit() {
		response.Peers = append(response.Peers, &pb.ClosestPeer{
			PeerId: fmt.Sprint(given, number), Addresses: []string{"/ip4/127.0.0.1/tcp/3"},
		})
	}
	return response, nil
}

func (f *fake) FindPeer(_ context.Context, request *pb.FindPeerRequest) (*pb.FindPeerResponse, error) {
	if request.GetPeerId() != other {
		return nil, refused(codes.NotFound, "NOT_FOUND", "nobody knows it", "", 0)
	}
	return &pb.FindPeerResponse{PeerId: other, Addresses: []string{"/ip4/127.0.0.1/tcp/2"}}, nil
}

func (f *fake) ConnectPeer(_ context.Context, request *pb.ConnectPeerRequest) (*pb.ConnectPeerResponse, error) {
	return &pb.ConnectPeerResponse{Peer: &pb.Peer{
		PeerId: request.GetPeerId(), Connected: true, Direction: pb.Direction_DIRECTION_OUTBOUND, Addresses: request.GetAddresses(),
		Latency: durationpb.New(2 * time.Millisecond), ConnectTime: timestamppb.New(time.Unix(9, 0)), Connections: 1,
	}}, nil
}

func (f *fake) DisconnectPeer(context.Context, *pb.DisconnectPeerRequest) (*pb.DisconnectPeerResponse, error) {
	return &pb.DisconnectPeerResponse{}, nil
}

func (f *fake) PingPeer(ctx context.Context, request *pb.PingPeerRequest) (*pb.PingPeerResponse, error) {
	if f.pingPeer != nil {
		return f.pingPeer(ctx, request)
	}
	return &pb.PingPeerResponse{Latency: durationpb.New(time.Millisecond)}, nil
}

// ---------------------------------------------------------------- topics

// deliver adds messages to the history, from where subscriptions take them.
func (f *fake) deliver(topic string, payloads ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, payload := range payloads {
		f.history = append(f.history, &pb.TopicMessage{
			Topic:       topic,
			Data:        []byte(payload),
			Sender:      other,
			MessageId:   []byte("id-" + payload),
			Cursor:      f.cursor(len(f.history) + 1),
			ReceiveTime: timestamppb.New(time.Unix(1000, 7)),
		})
	}
	close(f.more)
	f.more = make(chan struct{})
}

// cursor is the position behind so many messages; the fake is locked.
func (f *fake) cursor(position int) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, f.epoch), uint32(position))
}

func (f *fake) Subscribe(request *pb.SubscribeRequest, stream pb.PubSubService_SubscribeServer) error {
	if f.subscribe != nil {
		return f.subscribe(request, stream)
	}
	if err := inForce(stream); err != nil {
		return err
	}
	f.mu.Lock()
	position := len(f.history)
	greeting := &pb.SubscribeResponse{Cursor: f.cursor(position)}
	if given := request.GetCursor(); len(given) == 8 {
		if binary.BigEndian.Uint32(given) == f.epoch {
			position = int(binary.BigEndian.Uint32(given[4:]))
		} else {
			position = 0
			greeting.Lagged = &pb.Lagged{Reason: pb.LagReason_LAG_REASON_RESTARTED}
		}
		greeting.Cursor = f.cursor(position)
	}
	f.mu.Unlock()
	if err := stream.Send(greeting); err != nil {
		return err
	}
	for {
		f.mu.Lock()
		messages, more := slices.Clone(f.history[position:]), f.more
		f.mu.Unlock()
		if len(messages) > 0 {
			if err := stream.Send(&pb.SubscribeResponse{Messages: messages}); err != nil {
				return err
			}
			position += len(messages)
			continue
		}
		select {
		case <-more:
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

func (f *fake) Publish(ctx context.Context, request *pb.PublishRequest) (*pb.PublishResponse, error) {
	if f.publish != nil {
		return f.publish(ctx, request)
	}
	return &pb.PublishResponse{Receipt: sent(request.GetData())}, nil
}

// sent is the receipt of a message that went to one peer; its id is made of its payload.
func sent(data []byte) *pb.PublishReceipt {
	return &pb.PublishReceipt{
		Outcome: pb.PublishOutcome_PUBLISH_OUTCOME_SENT, MessageId: []byte("id-" + string(data)), Peers: 1,
	}
}

// bulkInForce says what the requests of a call may hold; nothing where that is below 0.
func (f *fake) bulkInForce(stream grpc.ServerStream) error {
	if f.maxRequest < 0 {
		return nil
	}
	size := 4 << 20
	if f.maxRequest > 0 {
		size = f.maxRequest
	}
	return stream.SendHeader(metadata.Pairs("sidecar-stream", "open", "sidecar-max-request", strconv.Itoa(size)))
}

func (f *fake) PublishMany(stream pb.PubSubService_PublishManyServer) error {
	if err := f.bulkInForce(stream); err != nil {
		return err
	}
	if f.publishMany != nil {
		return f.publishMany(stream)
	}
	first, ids := uint64(0), false
	for {
		request, err := stream.Recv()
		if err != nil {
			return nil //nolint:nilerr // the caller's end
		}
		ids = ids || request.GetReturnMessageIds()
		known := &pb.PublishReceiptRange{
			First: first, Count: uint64(len(request.GetMessages())), Outcome: pb.PublishOutcome_PUBLISH_OUTCOME_SENT, Peers: 1,
		}
		if ids {
			for _, message := range request.GetMessages() {
				known.MessageIds = append(known.MessageIds, []byte("id-"+string(message.GetData())))
			}
		}
		first += known.GetCount()
		if known.GetCount() == 0 {
			continue
		}
		if err := stream.Send(&pb.PublishManyResponse{Receipts: []*pb.PublishReceiptRange{known}}); err != nil {
			return err
		}
	}
}

func (f *fake) ListTopics(context.Context, *pb.ListTopicsRequest) (*pb.ListTopicsResponse, error) {
	return &pb.ListTopicsResponse{Topics: []*pb.Topic{
		{Name: "news", Subscribed: true, Signing: pb.Signing_SIGNING_STRICT_SIGN, Peers: 2, MeshPeerIds: []string{other}, HistoryMessages: 4,
			Delivered: 5, Published: 6, Duplicates: 7, Rejected: 8, Dropped: 9, DeliveredBytes: 10, PublishedBytes: 11,
			Ignored: 12, Validators: 13, Unjudged: 14},
	}}, nil
}

func (f *fake) Probe(request *pb.ProbeRequest, stream pb.PubSubService_ProbeServer) error {
	if f.probe != nil {
		return f.probe(request, stream)
	}
	return refused(codes.NotFound, "NOT_FOUND", "nobody is in it", "", 0)
}

// ---------------------------------------------------------------- direct messages and requests

func (f *fake) Send(ctx context.Context, request *pb.SendRequest) (*pb.SendResponse, error) {
	if f.send != nil {
		return f.send(ctx, request)
	}
	return &pb.SendResponse{Receipt: &pb.SendReceipt{Outcome: pb.SendOutcome_SEND_OUTCOME_DELIVERED, Detail: "alone"}}, nil
}

func (f *fake) SendMany(stream pb.DirectService_SendManyServer) error {
	if err := f.bulkInForce(stream); err != nil {
		return err
	}
	if f.sendMany != nil {
		return f.sendMany(stream)
	}
	first := uint64(0)
	for {
		request, err := stream.Recv()
		if err != nil {
			return nil //nolint:nilerr // the caller's end
		}
		count := uint64(len(request.GetMessages()))
		receipt := &pb.SendReceipt{Outcome: pb.SendOutcome_SEND_OUTCOME_DELIVERED, Detail: "together"}
		known := &pb.SendReceiptRange{First: first, Count: count, Receipt: receipt}
		first += count
		if err := stream.Send(&pb.SendManyResponse{Receipts: []*pb.SendReceiptRange{known}}); err != nil {
			return err
		}
	}
}

func (f *fake) Receive(request *pb.ReceiveRequest, stream pb.DirectService_ReceiveServer) error {
	return f.receive(request, stream)
}

func (f *fake) Validate(stream pb.PubSubService_ValidateServer) error {
	return f.validate(stream)
}

// desk is an app that serves.
type desk struct {
	mu      sync.Mutex
	stream  pb.DirectService_ServeServer
	next    uint64
	waiting map[uint64]chan *pb.Answer
}

func (f *fake) Serve(stream pb.DirectService_ServeServer) error {
	if f.serve != nil {
		return f.serve(stream)
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	app := &desk{stream: stream, waiting: make(map[uint64]chan *pb.Answer)}
	f.mu.Lock()
	for _, protocol := range first.GetProtocols() {
		if f.serving[protocol] != nil {
			f.mu.Unlock()
			return refused(codes.AlreadyExists, "ALREADY_EXISTS", "served already", "", 0)
		}
		f.serving[protocol] = app
	}
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, protocol := range first.GetProtocols() {
			if f.serving[protocol] == app { // else one that came after a restart
				delete(f.serving, protocol)
			}
		}
	}()
	if err := f.bulkInForce(stream); err != nil {
		return err
	}
	for {
		request, err := stream.Recv()
		if err != nil {
			return err
		}
		app.mu.Lock()
		for _, answer := range request.GetAnswers() {
			if waiting := app.waiting[answer.GetId()]; waiting != nil {
				waiting <- answer
			}
		}
		app.mu.Unlock()
	}
}

func (f *fake) Request(ctx context.Context, request *pb.RequestRequest) (*pb.RequestResponse, error) {
	if f.request != nil {
		return f.request(ctx, request)
	}
	f.mu.Lock()
	app := f.serving[request.GetProtocol()]
	f.mu.Unlock()
	if app == nil {
		return nil, refused(codes.Unimplemented, "NOT_SUPPORTED", "nobody serves it", "", 0)
	}
	answered := make(chan *pb.Answer, 1)
	incoming := &pb.IncomingRequest{PeerId: other, Protocol: request.GetProtocol(), Data: request.GetData(), Traceparent: request.GetTraceparent()}
	if deadline, ok := ctx.Deadline(); ok {
		incoming.TimeLeft = durationpb.New(time.Until(deadline))
	}
	app.mu.Lock()
	app.next++
	incoming.Id = app.next
	app.waiting[incoming.GetId()] = answered
	err := app.stream.Send(&pb.ServeResponse{Requests: []*pb.IncomingRequest{incoming}})
	app.mu.Unlock()
	if err != nil {
		return nil, err
	}
	select {
	case answer := <-answered:
		if answer.GetRefusal() != "" {
			return nil, refused(codes.FailedPrecondition, "REFUSED", answer.GetRefusal(), "", 0)
		}
		return &pb.RequestResponse{Data: answer.GetData()}, nil
	case <-ctx.Done():
		app.mu.Lock()
		defer app.mu.Unlock()
		delete(app.waiting, incoming.GetId())
		_ = app.stream.Send(&pb.ServeResponse{Withdrawn: []uint64{incoming.GetId()}})
		return nil, ctx.Err()
	case <-app.stream.Context().Done():
		return nil, refused(codes.Unimplemented, "NOT_SUPPORTED", "the app has gone", "", 0)
	}
}

// RequestMany makes a Request of each.
func (f *fake) RequestMany(stream pb.DirectService_RequestManyServer) error {
	if err := f.bulkInForce(stream); err != nil {
		return err
	}
	if f.requestMany != nil {
		return f.requestMany(stream)
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	open := make(map[uint64]context.CancelFunc)
	defer all.Wait()
	defer func() {
		mu.Lock()
		defer mu.Unlock()
		for _, cancel := range open {
			cancel()
		}
	}()
	var peer, protocol string
	for {
		asked, err := stream.Recv()
		if err != nil {
			return err
		}
		if asked.GetPeerId() != "" {
			peer, protocol = asked.GetPeerId(), asked.GetProtocol()
		}
		mu.Lock()
		for _, number := range asked.GetWithdrawn() {
			if cancel := open[number]; cancel != nil {
				cancel()
			}
		}
		for _, one := range asked.GetRequests() {
			ctx, cancel := context.WithCancel(stream.Context())
			if one.GetTimeout() != nil {
				ctx, cancel = context.WithTimeout(stream.Context(), one.GetTimeout().AsDuration())
			}
			open[one.GetId()] = cancel
			request := &pb.RequestRequest{PeerId: peer, Protocol: protocol, Data: one.GetData(), Traceparent: one.GetTraceparent()}
			all.Add(1)
			go func() {
				defer all.Done()
				defer cancel()
				response, err := f.Request(ctx, request)
				result := &pb.RequestResult{Id: one.GetId(), Result: &pb.RequestResult_Data{Data: response.GetData()}}
				if err != nil {
					text, _ := proto.Marshal(status.Convert(err).Proto())
					result.Result = &pb.RequestResult_Status{Status: text}
				}
				mu.Lock()
				defer mu.Unlock()
				delete(open, one.GetId())
				_ = stream.Send(&pb.RequestManyResponse{Results: []*pb.RequestResult{result}})
			}()
		}
		mu.Unlock()
	}
}

// ---------------------------------------------------------------- byte streams

// pipe joins two calls: what one says the other hears. Each way holds one piece, so that back-pressure is felt.
type pipe struct {
	there, back chan *pb.AttachStreamRequest
	ended       [2]chan struct{} // closed when a side's call has ended
	cut         chan error       // the reason that a test cuts it with, for each side
}

func (f *fake) AcceptStreams(request *pb.AcceptStreamsRequest, stream pb.StreamService_AcceptStreamsServer) error {
	arriving := make(chan *pb.IncomingStream, 16)
	f.mu.Lock()
	f.accepting = append(f.accepting, request)
	for _, protocol := range request.GetProtocols() {
		if f.accepted[protocol] != nil {
			f.mu.Unlock()
			return refused(codes.AlreadyExists, "ALREADY_EXISTS", "accepted already", "", 0)
		}
		f.accepted[protocol] = arriving
	}
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, protocol := range request.GetProtocols() {
			if f.accepted[protocol] == arriving { // else one that came after a restart
				delete(f.accepted, protocol)
			}
		}
	}()
	if err := inForce(stream); err != nil {
		return err
	}
	for {
		select {
		case incoming := <-arriving:
			if err := stream.Send(&pb.AcceptStreamsResponse{Streams: []*pb.IncomingStream{incoming}}); err != nil {
				return err
			}
		case <-stream.Context().Done():
			return nil
		}
	}
}

func (f *fake) OpenStream(stream pb.StreamService_OpenStreamServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	protocol := first.GetProtocols()[len(first.GetProtocols())-1]
	if err := f.bulkInForce(stream); err != nil {
		return err
	}
	made := &pipe{
		there: make(chan *pb.AttachStreamRequest),
		back:  make(chan *pb.AttachStreamRequest),
		ended: [2]chan struct{}{make(chan struct{}), make(chan struct{})},
		cut:   make(chan error, 2),
	}
	f.mu.Lock()
	arriving := f.accepted[protocol]
	f.tokens++
	token := fmt.Sprint("token-", f.tokens)
	f.pipes[token] = made
	f.mu.Unlock()
	if arriving == nil {
		return refused(codes.Unimplemented, "NOT_SUPPORTED", "nobody accepts it", "", 0)
	}
	arriving <- &pb.IncomingStream{Token: token, PeerId: other, Protocol: protocol}
	opened := &pb.OpenedStream{PeerId: first.GetPeerId(), Protocol: protocol}
	if err := stream.Send(&pb.OpenStreamResponse{Opened: opened}); err != nil {
		return err
	}
	return made.run(stream.Context(), 0,
		func() (*pb.AttachStreamRequest, error) {
			said, err := stream.Recv()
			f.pieces.Add(1)
			return &pb.AttachStreamRequest{Data: said.GetData(), CloseWrite: said.GetCloseWrite()}, err
		},
		func(data []byte, end bool) error { return stream.Send(&pb.OpenStreamResponse{Data: data, End: end}) })
}

func (f *fake) CarryStreams(stream pb.StreamService_CarryStreamsServer) error {
	if f.carryStreams == nil {
		return status.Error(codes.Unimplemented, "Method not found!")
	}
	return f.carryStreams(stream)
}

func (f *fake) AttachStream(stream pb.StreamService_AttachStreamServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	f.mu.Lock()
	found := f.pipes[first.GetToken()]
	delete(f.pipes, first.GetToken())
	f.mu.Unlock()
	if found == nil {
		return refused(codes.NotFound, "NOT_FOUND", "no such stream waits", "", 0)
	}
	if err := f.bulkInForce(stream); err != nil {
		return err
	}
	opened := &pb.OpenedStream{PeerId: other, Protocol: "/echo/1"}
	if err := stream.Send(&pb.AttachStreamResponse{Opened: opened}); err != nil {
		return err
	}
	return found.run(stream.Context(), 1, stream.Recv,
		func(data []byte, end bool) error { return stream.Send(&pb.AttachStreamResponse{Data: data, End: end}) })
}

// run is one side's call, until both directions have ended or the other side is gone.
func (p *pipe) run(
	ctx context.Context, side int, hear func() (*pb.AttachStreamRequest, error), say func([]byte, bool) error,
) error {
	defer close(p.ended[side])
	out, in := p.there, p.back
	if side == 1 {
		out, in = in, out
	}
	over := make(chan struct{}) // our direction has ended
	go func() {
		for {
			heard, err := hear()
			if err != nil {
				return
			}
			select {
			case out <- heard:
			case <-p.ended[1-side]:
				return
			case <-ctx.Done():
				return
			}
			if heard.GetCloseWrite() {
				close(over)
				return
			}
		}
	}()
	for heardEnd := false; ; {
		var ended chan struct{}
		if heardEnd {
			ended = over
		}
		select {
		case said := <-in:
			if err := say(said.GetData(), said.GetCloseWrite()); err != nil {
				return err
			}
			heardEnd = heardEnd || said.GetCloseWrite()
		case <-ended:
			return nil
		case err := <-p.cut:
			return err
		case <-p.ended[1-side]:
			select {
			case <-over:
				if heardEnd {
					return nil
				}
			default:
			}
			return refused(codes.Aborted, "STREAM_RESET", "the peer reset the stream", "", 0)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// ---------------------------------------------------------------- discovery

func (f *fake) Advertise(request *pb.AdvertiseRequest, stream pb.DiscoveryService_AdvertiseServer) error {
	return f.advertise(request, stream)
}

func (f *fake) FindPeers(request *pb.FindPeersRequest, stream pb.DiscoveryService_FindPeersServer) error {
	if err := inForce(stream); err != nil {
		return err
	}
	for number := range request.GetLimit() {
		found := &pb.FoundPeer{PeerId: fmt.Sprint(request.GetName(), number), Addresses: []string{"/ip4/127.0.0.1/tcp/3"}}
		if err := stream.Send(&pb.FindPeersResponse{Peers: []*pb.FoundPeer{found}}); err != nil {
			return err
		}
	}
	return nil
}

func (f *fake) PutRecord(_ context.Context, request *pb.PutRecordRequest) (*pb.PutRecordResponse, error) {
	if request.GetQuorum() > 1 {
		return nil, refused(codes.Unavailable, "NO_QUORUM", "1 of 2 peers took it", "", 0)
	}
	return &pb.PutRecordResponse{Stored: 1, Asked: 2}, nil
}

func (f *fake) GetRecord(_ context.Context, request *pb.GetRecordRequest) (*pb.GetRecordResponse, error) {
	return &pb.GetRecordResponse{
		Value: request.GetKey(), Holders: request.GetQuorum(), ExpiresAt: timestamppb.New(time.Unix(5, 0)), Publisher: me, Sequence: 8,
	}, nil
}
