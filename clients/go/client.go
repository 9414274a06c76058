package sidecar

import (
	"context"
	"iter"
	"log/slog"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/p2p-sidecar/sidecar/clients/go/sidecarv1"
)

// servicePrefix begins the names of all methods.
const servicePrefix = "/sidecar.v1."

// Client is a connection to a sidecar, for any number of goroutines. Its methods fail with an [*Error], or with an error
// that is context.Canceled; deadlines of contexts travel with the calls, and cancelling a call cancels its work.
type Client struct {
	link    *link
	publish outbox[publishKey, PublishReceipt]
	send    outbox[sendKey, SendReceipt]
	asking  *asking
	settles *settling
}

// Connect connects to a sidecar and waits for it: by default 10 s, and not beyond ctx, which does not matter later. When
// no sidecar answers in time the error is ErrSidecarUnavailable, and says what was tried.
func Connect(ctx context.Context, options ...Option) (*Client, error) {
	config := settings{wait: patience, reconnect: true}
	for _, option := range options {
		option(&config)
	}
	if config.logger == nil {
		config.logger = slog.Default()
	}
	if config.wait < 0 {
		return nil, badField("wait", "the wait is %s, at least 0", config.wait)
	}
	where, err := findTarget(config.target)
	if err != nil {
		return nil, err
	}
	link, err := newLink(where, &config)
	if err != nil {
		return nil, err
	}
	if err := link.await(ctx, config.wait); err != nil {
		_ = link.close()
		return nil, err
	}
	return &Client{
		link: link, publish: newPublishing(link), send: newSending(link), asking: newAsking(link), settles: &settling{link: link},
	}, nil
}

// Target is where the sidecar is.
func (c *Client) Target() string { return c.link.target.text }

// Close ends all calls and streams, and waits until nothing of them is left: handlers that still run, and byte streams
// that were closed and still bring their last bytes away, at most 5 s. Not to be called by a handler.
func (c *Client) Close() error { return c.link.close() }

// ---------------------------------------------------------------- the node

// Info gives identity, network, addresses, version and uptime.
func (c *Client) Info(ctx context.Context) (NodeInfo, error) {
	var response sidecarv1.GetNodeResponse
	err := c.link.unary(ctx, sidecarv1.NodeService_GetNode_FullMethodName, &sidecarv1.GetNodeRequest{}, &response, again)
	if err != nil {
		return NodeInfo{}, err
	}
	return nodeInfo(response.GetNode()), nil
}

// Readiness says whether the node is ready, and each condition that this is made of.
func (c *Client) Readiness(ctx context.Context) (Readiness, error) {
	var response sidecarv1.GetReadinessResponse
	request := &sidecarv1.GetReadinessRequest{}
	err := c.link.unary(ctx, sidecarv1.NodeService_GetReadiness_FullMethodName, request, &response, again)
	if err != nil {
		return Readiness{}, err
	}
	return readinessOf(response.GetReadiness()), nil
}

// WatchReadiness gives the readiness now, then after every change. It goes on until the loop or ctx ends; an error is the
// last thing that it gives.
func (c *Client) WatchReadiness(ctx context.Context) iter.Seq2[Readiness, error] {
	return func(yield func(Readiness, error) bool) {
		watching := feed{
			link:   c.link,
			name:   "watching readiness",
			method: sidecarv1.NodeService_WatchReadiness_FullMethodName,
			desc:   serverStreamCall,
			first:  func() any { return &sidecarv1.WatchReadinessRequest{} },
		}
		watching.prepare(ctx)
		defer watching.close()
		for {
			var response sidecarv1.WatchReadinessResponse
			lost, err := watching.next(&response)
			if err != nil {
				yield(Readiness{}, err)
				return
			}
			if !lost && !yield(readinessOf(response.GetReadiness()), nil) {
				return
			}
		}
	}
}

// Ready waits until the node is ready.
func (c *Client) Ready(ctx context.Context) (Readiness, error) {
	for readiness, err := range c.WatchReadiness(ctx) {
		if err != nil || readiness.Ready {
			return readiness, err
		}
	}
	return Readiness{}, c.link.closedError()
}

// ---------------------------------------------------------------- peers

// Peers gives the peers known, ordered by id, asking for page after page.
func (c *Client) Peers(ctx context.Context, options ...PeersOption) iter.Seq2[Peer, error] {
	var chosen callSettings
	for _, option := range options {
		option.peers(&chosen)
	}
	return func(yield func(Peer, error) bool) {
		request := &sidecarv1.ListPeersRequest{ConnectedOnly: chosen.connectedOnly, Protocol: chosen.protocol}
		for {
			var response sidecarv1.ListPeersResponse
			err := c.link.unary(ctx, sidecarv1.PeerService_ListPeers_FullMethodName, request, &response, again)
			if err != nil {
				yield(Peer{}, err)
				return
			}
			for _, peer := range response.GetPeers() {
				if !yield(peerOf(peer), nil) {
					return
				}
			}
			if request.PageToken = response.GetNextPageToken(); request.PageToken == "" {
				return
			}
		}
	}
}

// WatchPeers gives the connected peers (PeerPresent, then one PeersCurrent), then every change. Where events may have been
// missed, PeersReconnected or PeersLagged come before the present state is told anew. It goes on until the loop or ctx
// ends; an error is the last thing that it gives.
func (c *Client) WatchPeers(ctx context.Context) iter.Seq2[PeerEvent, error] {
	return func(yield func(PeerEvent, error) bool) {
		watching := feed{
			link:   c.link,
			name:   "watching peers",
			method: sidecarv1.PeerService_WatchPeers_FullMethodName,
			desc:   serverStreamCall,
			first:  func() any { return &sidecarv1.WatchPeersRequest{} },
		}
		watching.prepare(ctx)
		defer watching.close()
		told := false
		for {
			var response sidecarv1.WatchPeersResponse
			lost, err := watching.next(&response)
			switch {
			case err != nil:
				yield(PeerEvent{}, err)
				return
			case lost && told && !yield(PeerEvent{Type: PeersReconnected}, nil):
				return
			case response.GetLagged() != nil && !yield(PeerEvent{Type: PeersLagged}, nil):
				return
			}
			told = true
			for _, event := range response.GetEvents() {
				if !yield(peerEvent(event), nil) {
					return
				}
			}
		}
	}
}

// Peer gives what the node knows of a peer, without asking anybody. ErrNotFound when it is not connected, known or
// protected.
func (c *Client) Peer(ctx context.Context, peerID string) (Peer, error) {
	var response sidecarv1.GetPeerResponse
	request := &sidecarv1.GetPeerRequest{PeerId: peerID}
	err := c.link.unary(ctx, sidecarv1.PeerService_GetPeer_FullMethodName, request, &response, again)
	if err != nil {
		return Peer{}, err
	}
	return peerOf(response.GetPeer()), nil
}

// FindPeer gives a peer's addresses, through the DHT where needed. ErrNotFound when nobody knows any.
func (c *Client) FindPeer(ctx context.Context, peerID string) ([]string, error) {
	var response sidecarv1.FindPeerResponse
	request := &sidecarv1.FindPeerRequest{PeerId: peerID}
	err := c.link.unary(ctx, sidecarv1.PeerService_FindPeer_FullMethodName, request, &response, again)
	if err != nil {
		return nil, err
	}
	return response.GetAddresses(), nil
}

// ClosestPeers walks the DHT to the peers that are closest to a key, 1 to 1024 bytes: a record's, such as "/app/name", or the
// multihash of what a peer provides. With [WithPeerID] it walks to a peer's id, and the key is empty. The closest comes
// first; [WithLimit] says how many there are at most. There are none where nobody in the DHT answers. ErrInvalidArgument.
func (c *Client) ClosestPeers(ctx context.Context, key string, options ...ClosestPeersOption) ([]FoundPeer, error) {
	var chosen callSettings
	for _, option := range options {
		option.closestPeers(&chosen)
	}
	request := &sidecarv1.ListClosestPeersRequest{Key: []byte(key), PeerId: chosen.peerID, Limit: chosen.limit}
	var response sidecarv1.ListClosestPeersResponse
	err := c.link.unary(ctx, sidecarv1.PeerService_ListClosestPeers_FullMethodName, request, &response, again)
	if err != nil {
		return nil, err
	}
	peers := make([]FoundPeer, 0, len(response.GetPeers()))
	for _, peer := range response.GetPeers() {
		peers = append(peers, FoundPeer{PeerID: peer.GetPeerId(), Addresses: peer.GetAddresses()})
	}
	return peers, nil
}

// ConnectPeer connects to a peer: at the addresses given, at most 32, else at what is known of it or the DHT knows. The
// id may be empty where an address is given: then whoever answers there. ErrUnreachable and what is below it,
// ErrWrongPeer, ErrWrongNetwork, ErrPeerBanned.
func (c *Client) ConnectPeer(ctx context.Context, peerID string, addresses ...string) (Peer, error) {
	var response sidecarv1.ConnectPeerResponse
	request := &sidecarv1.ConnectPeerRequest{PeerId: peerID, Addresses: addresses}
	err := c.link.unary(ctx, sidecarv1.PeerService_ConnectPeer_FullMethodName, request, &response, once)
	if err != nil {
		return Peer{}, err
	}
	return peerOf(response.GetPeer()), nil
}

// DisconnectPeer closes all connections of a peer. ErrNotFound when there is none.
func (c *Client) DisconnectPeer(ctx context.Context, peerID string) error {
	request := &sidecarv1.DisconnectPeerRequest{PeerId: peerID}
	response := &sidecarv1.DisconnectPeerResponse{}
	return c.link.unary(ctx, sidecarv1.PeerService_DisconnectPeer_FullMethodName, request, response, once)
}

// PingPeer measures the round trip to a peer; it connects first where needed.
func (c *Client) PingPeer(ctx context.Context, peerID string) (time.Duration, error) {
	var response sidecarv1.PingPeerResponse
	request := &sidecarv1.PingPeerRequest{PeerId: peerID}
	err := c.link.unary(ctx, sidecarv1.PeerService_PingPeer_FullMethodName, request, &response, once)
	if err != nil {
		return 0, err
	}
	return response.GetLatency().AsDuration(), nil
}

// ---------------------------------------------------------------- requests, topics, discovery

// Request asks a peer's app and waits for its response: until ctx's deadline, 30 s when it has none. ErrNotSupported when
// nobody serves the protocol there, ErrRefused, ErrUnreachable, ErrDeadlineExceeded, ErrQueueFull, ErrTooLarge. Requests
// from many goroutines at once are fast: they share a call.
func (c *Client) Request(
	ctx context.Context, peerID, protocol string, data []byte, options ...RequestOption,
) ([]byte, error) {
	var chosen callSettings
	for _, option := range options {
		option.request(&chosen)
	}
	if err := checkText("peer_id", peerID); err != nil {
		return nil, err
	}
	if err := checkText("protocol", protocol); err != nil {
		return nil, err
	}
	if err := checkText("traceparent", chosen.traceparent); err != nil {
		return nil, err
	}
	return c.asking.ask(ctx, sendKey{peerID: peerID, protocol: protocol}, data, chosen.traceparent)
}

// Topics gives the topics that this node subscribes to or publishes on, or that its peers subscribe to.
func (c *Client) Topics(ctx context.Context) ([]Topic, error) {
	var response sidecarv1.ListTopicsResponse
	request := &sidecarv1.ListTopicsRequest{}
	err := c.link.unary(ctx, sidecarv1.PubSubService_ListTopics_FullMethodName, request, &response, again)
	if err != nil {
		return nil, err
	}
	topics := make([]Topic, 0, len(response.GetTopics()))
	for _, topic := range response.GetTopics() {
		topics = append(topics, topicOf(topic))
	}
	return topics, nil
}

// FindPeers gives the peers that advertise a name, as they are found; this node is left out. An error is the last thing
// that it gives.
func (c *Client) FindPeers(ctx context.Context, name string, options ...FindPeersOption) iter.Seq2[FoundPeer, error] {
	var chosen callSettings
	for _, option := range options {
		option.findPeers(&chosen)
	}
	return func(yield func(FoundPeer, error) bool) {
		err := c.findPeers(ctx, &sidecarv1.FindPeersRequest{Name: name, Limit: chosen.limit}, yield)
		if err != nil {
			yield(FoundPeer{}, err)
		}
	}
}

// PutRecord puts a record `/namespace/name` into the DHT. ErrInvalidArgument, ErrTooLarge, ErrOutdated, ErrNoQuorum.
func (c *Client) PutRecord(
	ctx context.Context, key string, value []byte, options ...RecordOption,
) (RecordReceipt, error) {
	var chosen callSettings
	for _, option := range options {
		option.record(&chosen)
	}
	var response sidecarv1.PutRecordResponse
	request := &sidecarv1.PutRecordRequest{Key: []byte(key), Value: value, Quorum: chosen.quorum}
	err := c.link.unary(ctx, sidecarv1.DiscoveryService_PutRecord_FullMethodName, request, &response, once)
	if err != nil {
		return RecordReceipt{}, err
	}
	return RecordReceipt{Stored: response.GetStored(), Asked: response.GetAsked()}, nil
}

// GetRecord gets a record from the DHT: the best value of those that peers have. ErrNotFound, ErrInvalidArgument.
func (c *Client) GetRecord(ctx context.Context, key string, options ...RecordOption) (Record, error) {
	var chosen callSettings
	for _, option := range options {
		option.record(&chosen)
	}
	var response sidecarv1.GetRecordResponse
	request := &sidecarv1.GetRecordRequest{Key: []byte(key), Quorum: chosen.quorum}
	err := c.link.unary(ctx, sidecarv1.DiscoveryService_GetRecord_FullMethodName, request, &response, again)
	if err != nil {
		return Record{}, err
	}
	return recordOf(&response), nil
}

// durationOf is a duration as the API wants it; nil for none.
func durationOf(duration time.Duration) *durationpb.Duration {
	if duration == 0 {
		return nil
	}
	return durationpb.New(duration)
}
