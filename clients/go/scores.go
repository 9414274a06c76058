package sidecar

import (
	"context"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/p2p-sidecar/sidecar/clients/go/sidecarv1"
)

// PeerStanding is what a peer's score in gossip has come to; each has what those before it have.
type PeerStanding int32

// What a score can come to.
const (
	StandingUnspecified = PeerStanding(sidecarv1.PeerStanding_PEER_STANDING_UNSPECIFIED)
	StandingGood        = PeerStanding(sidecarv1.PeerStanding_PEER_STANDING_GOOD)
	// StandingNoMesh: below 0, it is in no mesh.
	StandingNoMesh = PeerStanding(sidecarv1.PeerStanding_PEER_STANDING_NO_MESH)
	// StandingNoGossip: no IHAVE to it, and its own IHAVE and IWANT are ignored.
	StandingNoGossip = PeerStanding(sidecarv1.PeerStanding_PEER_STANDING_NO_GOSSIP)
	// StandingNoPublish: what apps publish here is not sent to it.
	StandingNoPublish = PeerStanding(sidecarv1.PeerStanding_PEER_STANDING_NO_PUBLISH)
	// StandingGraylisted: nothing that it says in gossip is listened to.
	StandingGraylisted = PeerStanding(sidecarv1.PeerStanding_PEER_STANDING_GRAYLISTED)
)

// String is the API's name without its prefix: GRAYLISTED.
func (s PeerStanding) String() string {
	return strings.TrimPrefix(sidecarv1.PeerStanding(s).String(), "PEER_STANDING_")
}

// PeerScore is what is thought of a peer in gossip, in points (gossipsub v1.1, "Peer Scoring").
type PeerScore struct {
	Score    float64
	Standing PeerStanding
	// Reason says what costs most, a sentence; empty where nothing does.
	Reason string
	// Topics add no more than the sidecar's cap together.
	Topics      []TopicScore
	Application float64 // P5: what SetPeerScore set
	Colocation  float64 // P6: many peers at one address
	Behaviour   float64 // P7: misbehaviour
	Slow        float64 // messages for it are lost, since it takes them too slowly
}

// TopicScore is what a peer's behaviour in one topic adds to its score, in points.
type TopicScore struct {
	Topic           string
	TimeInMesh      float64 // P1
	FirstDeliveries float64 // P2
	MeshDeliveries  float64 // P3
	MeshFailures    float64 // P3b
	InvalidMessages float64 // P4
}

// SetPeerScore adds points, from -1e6 to 1e6, to a peer's score in gossip, or takes them from it; 0 takes back what was
// set before. They hold for the duration, or, where that is 0, as long as the sidecar knows the peer.
func (c *Client) SetPeerScore(ctx context.Context, peerID string, score float64, duration time.Duration) error {
	request := &sidecarv1.SetPeerScoreRequest{PeerId: peerID, Score: score}
	if duration != 0 {
		request.Duration = durationpb.New(duration)
	}
	var response sidecarv1.SetPeerScoreResponse
	return c.link.unary(ctx, sidecarv1.PeerService_SetPeerScore_FullMethodName, request, &response, again)
}

func peerScore(message *sidecarv1.PeerScore) *PeerScore {
	if message == nil {
		return nil
	}
	score := &PeerScore{
		Score:       message.GetScore(),
		Standing:    PeerStanding(message.GetStanding()),
		Reason:      message.GetReason(),
		Application: message.GetApplication(),
		Colocation:  message.GetColocation(),
		Behaviour:   message.GetBehaviour(),
		Slow:        message.GetSlow(),
	}
	for _, topic := range message.GetTopics() {
		score.Topics = append(score.Topics, TopicScore{
			Topic:           topic.GetTopic(),
			TimeInMesh:      topic.GetTimeInMesh(),
			FirstDeliveries: topic.GetFirstDeliveries(),
			MeshDeliveries:  topic.GetMeshDeliveries(),
			MeshFailures:    topic.GetMeshFailures(),
			InvalidMessages: topic.GetInvalidMessages(),
		})
	}
	return score
}
