package main

import (
	"context"
	"fmt"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-msgio/protoio"
	"google.golang.org/protobuf/proto"
)

const (
	inspectEvery = 100 * time.Millisecond
	topicCap     = 20.0 // points that topics add at most
	window       = 2 * time.Second
	activation   = 5 * time.Second
)

// watched is what was seen of a peer's score.
type watched struct {
	now, lowest float64
	penalties   float64 // the most that P7 counted
	parts       object  // when it was lowest
}

// topicScoring derives P1 to P4 from a topic's rate, as ../README.md says.
func topicScoring(rate float64) *pubsub.TopicScoreParams {
	slow := pubsub.ScoreParameterDecay(10 * time.Minute)
	decay := pubsub.ScoreParameterDecay(time.Minute)
	threshold := rate / 50 / (1 - decay) * decay
	weight := -topicCap / (threshold * threshold)
	return &pubsub.TopicScoreParams{
		TopicWeight:                     1,
		TimeInMeshWeight:                0.01,
		TimeInMeshQuantum:               time.Second,
		TimeInMeshCap:                   100,
		FirstMessageDeliveriesWeight:    0.2,
		FirstMessageDeliveriesDecay:     slow,
		FirstMessageDeliveriesCap:       100,
		MeshMessageDeliveriesWeight:     weight,
		MeshMessageDeliveriesDecay:      decay,
		MeshMessageDeliveriesCap:        4 * threshold,
		MeshMessageDeliveriesThreshold:  threshold,
		MeshMessageDeliveriesWindow:     window,
		MeshMessageDeliveriesActivation: activation,
		MeshFailurePenaltyWeight:        weight,
		MeshFailurePenaltyDecay:         decay,
		InvalidMessageDeliveriesWeight:  -75,
		InvalidMessageDeliveriesDecay:   slow,
	}
}

// scoring keeps scores that only misbehaviour lowers: many peers on one host are no offence here.
func (n *node) scoring(o options) []pubsub.Option {
	parameters := &pubsub.PeerScoreParams{
		AppSpecificScore:          func(peer.ID) float64 { return 0 },
		BehaviourPenaltyWeight:    -10,
		BehaviourPenaltyThreshold: 0,
		BehaviourPenaltyDecay:     0.999, // slow, so that a test sees what happened
		DecayInterval:             time.Second,
		DecayToZero:               0.01,
		RetainScore:               time.Minute,
		TopicScoreCap:             topicCap,
		Topics:                    map[string]*pubsub.TopicScoreParams{},
	}
	for topic, rate := range o.rates {
		parameters.Topics[topic] = topicScoring(rate)
	}
	thresholds := &pubsub.PeerScoreThresholds{
		GossipThreshold: -1000, PublishThreshold: -2000, GraylistThreshold: -3000,
		AcceptPXThreshold: 0, OpportunisticGraftThreshold: 1,
	}
	return []pubsub.Option{
		pubsub.WithPeerScore(parameters, thresholds), pubsub.WithPeerScoreInspect(n.inspect, inspectEvery),
	}
}

func (n *node) inspect(scores map[peer.ID]*pubsub.PeerScoreSnapshot) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	for p, snapshot := range scores {
		name := p.String()
		seen, known := n.scores[name]
		if !known {
			seen = &watched{}
			n.scores[name] = seen
		}
		seen.now = snapshot.Score
		seen.penalties = max(seen.penalties, snapshot.BehaviourPenalty)
		if !known || snapshot.Score < seen.lowest {
			seen.lowest, seen.parts = snapshot.Score, object{"topics": snapshot.Topics, "behaviour": snapshot.BehaviourPenalty}
		}
	}
}

func takeScores(_ context.Context, n *node, _ *command) (object, error) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	scores, lowest, parts, penalties := object{}, object{}, object{}, object{}
	for name, seen := range n.scores {
		scores[name], lowest[name], parts[name], penalties[name] = seen.now, seen.lowest, seen.parts, seen.penalties
	}
	return object{"scores": scores, "lowest": lowest, "parts": parts, "penalties": penalties}, nil
}

func gossipPeers(_ context.Context, n *node, _ *command) (object, error) {
	return object{"peers": n.mesh.protocols()}, nil
}

// publishTampered signs a message, changes its data, and sends it to one peer on a stream of its own.
func publishTampered(ctx context.Context, n *node, cmd *command) (object, error) {
	target, err := peer.Decode(cmd.PeerID)
	if err != nil {
		return nil, err
	}
	message := &pb.Message{
		From: []byte(n.host.ID()), Data: append([]byte(nil), cmd.Data...), Topic: &cmd.Topic,
		Seqno: fmt.Appendf(nil, "%08d", time.Now().UnixNano()%100_000_000),
	}
	raw, err := proto.Marshal(message)
	if err != nil {
		return nil, err
	}
	key := n.host.Peerstore().PrivKey(n.host.ID())
	if message.Signature, err = key.Sign(append([]byte(pubsub.SignPrefix), raw...)); err != nil {
		return nil, err
	}
	message.Data[0] ^= 1
	stream, err := n.host.NewStream(ctx, target, pubsub.GossipSubID_v11)
	if err != nil {
		return nil, err
	}
	if err := protoio.NewDelimitedWriter(stream).WriteMsg(&pb.RPC{Publish: []*pb.Message{message}}); err != nil {
		return nil, err
	}
	return nil, stream.CloseWrite()
}
