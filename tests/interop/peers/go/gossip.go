package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// meshTracer keeps each topic's mesh, which go-libp2p-pubsub does not tell.
type meshTracer struct {
	out    *output
	mutex  sync.Mutex
	peers  map[string]map[peer.ID]struct{}
	spoken map[peer.ID]protocol.ID
}

func (t *meshTracer) Graft(p peer.ID, topic string) {
	t.mutex.Lock()
	if t.peers[topic] == nil {
		t.peers[topic] = map[peer.ID]struct{}{}
	}
	t.peers[topic][p] = struct{}{}
	t.mutex.Unlock()
	t.out.write(object{"event": "graft", "topic": topic, "peer_id": p.String()})
}

func (t *meshTracer) Prune(p peer.ID, topic string) {
	t.mutex.Lock()
	delete(t.peers[topic], p)
	t.mutex.Unlock()
	t.out.write(object{"event": "prune", "topic": topic, "peer_id": p.String()})
}

// OnClosedOutboundStream forgets a peer that left without a PRUNE.
func (t *meshTracer) OnClosedOutboundStream(p peer.ID) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	for _, peers := range t.peers {
		delete(peers, p)
	}
	delete(t.spoken, p)
}

func (t *meshTracer) OnNewOutboundStream(p peer.ID, id protocol.ID) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	t.spoken[p] = id
}

// protocols gives the gossip protocol spoken with each peer.
func (t *meshTracer) protocols() map[string]string {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	list := map[string]string{}
	for p, id := range t.spoken {
		list[p.String()] = string(id)
	}
	return list
}

func (t *meshTracer) RecvRPC(rpc *pubsub.RPC) { t.idontwant(rpc, rpc.From(), "received") }

func (t *meshTracer) SendRPC(rpc *pubsub.RPC, p peer.ID) { t.idontwant(rpc, p, "sent") }

func (t *meshTracer) idontwant(rpc *pubsub.RPC, p peer.ID, direction string) {
	count := 0
	for _, list := range rpc.GetControl().GetIdontwant() {
		count += len(list.GetMessageIDs())
	}
	if count > 0 {
		t.out.write(object{"event": "idontwant", "peer_id": p.String(), "direction": direction, "count": count})
	}
}

func (t *meshTracer) Leave(topic string) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	delete(t.peers, topic)
}

func (t *meshTracer) list(topic string) []string {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	list := []string{}
	for p := range t.peers[topic] {
		list = append(list, p.String())
	}
	return list
}

func (t *meshTracer) Join(string)                                          {}
func (t *meshTracer) ValidateMessage(*pubsub.Message)                      {}
func (t *meshTracer) DeliverMessage(*pubsub.Message)                       {}
func (t *meshTracer) RejectMessage(*pubsub.Message, string)                {}
func (t *meshTracer) DuplicateMessage(*pubsub.Message)                     {}
func (t *meshTracer) ThrottlePeer(peer.ID)                                 {}
func (t *meshTracer) SendRPCCompleted(*pubsub.RPC, peer.ID, time.Duration) {}
func (t *meshTracer) DropRPC(*pubsub.RPC, peer.ID)                         {}
func (t *meshTracer) UndeliverableMessage(*pubsub.Message)                 {}

type subscription struct {
	cancel context.CancelFunc
	tally  *tally
}

// topic joins a topic once; go-libp2p-pubsub refuses a second time.
func (n *node) topic(name string) (*pubsub.Topic, error) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	if topic, joined := n.topics[name]; joined {
		return topic, nil
	}
	topic, err := n.pubsub.Join(name)
	if err == nil {
		n.topics[name] = topic
	}
	return topic, err
}

func subscribe(ctx context.Context, n *node, cmd *command) (object, error) {
	topic, err := n.topic(cmd.Topic)
	if err != nil {
		return nil, err
	}
	var acks network.Stream
	if cmd.AckTo != "" {
		target, err := peer.Decode(cmd.AckTo)
		if err != nil {
			return nil, err
		}
		if acks, err = n.host.NewStream(ctx, target, ackProtocol); err != nil {
			return nil, err
		}
	}
	peers, err := topic.EventHandler()
	if err != nil {
		return nil, err
	}
	messages, err := topic.Subscribe(pubsub.WithBufferSize(queueSize))
	if err != nil {
		return nil, err
	}
	n.mutex.Lock()
	defer n.mutex.Unlock()
	if _, already := n.subscriptions[cmd.Topic]; already {
		messages.Cancel()
		peers.Cancel()
		return nil, fmt.Errorf("already subscribed to %s", cmd.Topic)
	}
	lifetime, cancel := context.WithCancel(context.Background())
	entry := &subscription{cancel: cancel, tally: &tally{acks: acks}}
	n.subscriptions[cmd.Topic] = entry
	go n.watchTopic(lifetime, cmd.Topic, peers)
	go n.read(lifetime, messages, entry, cmd.Quiet)
	return nil, nil
}

func (n *node) watchTopic(ctx context.Context, topic string, peers *pubsub.TopicEventHandler) {
	defer peers.Cancel()
	for {
		e, err := peers.NextPeerEvent(ctx)
		if err != nil {
			return
		}
		n.out.write(object{
			"event": "topic_peer", "topic": topic, "peer_id": e.Peer.String(), "joined": e.Type == pubsub.PeerJoin,
		})
	}
}

func (n *node) read(ctx context.Context, messages *pubsub.Subscription, entry *subscription, quiet bool) {
	defer messages.Cancel()
	if entry.tally.acks != nil {
		defer entry.tally.acks.Close()
	}
	for {
		message, err := messages.Next(ctx)
		if err != nil {
			return
		}
		if message.ReceivedFrom == n.host.ID() {
			continue
		}
		if quiet {
			entry.tally.add(message.GetData())
			continue
		}
		var author any // null when unsigned
		if len(message.Message.From) > 0 {
			author = message.GetFrom().String()
		}
		n.out.write(object{
			"event": "message", "topic": message.GetTopic(), "data": message.GetData(),
			"from": author, "source": message.ReceivedFrom.String(),
		})
	}
}

func unsubscribe(_ context.Context, n *node, cmd *command) (object, error) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	entry, known := n.subscriptions[cmd.Topic]
	if !known {
		return nil, fmt.Errorf("not subscribed to %s", cmd.Topic)
	}
	entry.cancel()
	delete(n.subscriptions, cmd.Topic)
	return nil, nil
}

func topicPeers(_ context.Context, n *node, cmd *command) (object, error) {
	list := []string{}
	for _, p := range n.pubsub.ListPeers(cmd.Topic) {
		list = append(list, p.String())
	}
	return object{"peers": list}, nil
}

func mesh(_ context.Context, n *node, cmd *command) (object, error) {
	return object{"peers": n.mesh.list(cmd.Topic)}, nil
}

func publish(ctx context.Context, n *node, cmd *command) (object, error) {
	topic, err := n.topic(cmd.Topic)
	if err != nil {
		return nil, err
	}
	return nil, topic.Publish(ctx, cmd.Data)
}
