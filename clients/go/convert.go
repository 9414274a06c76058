package sidecar

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/p2p-sidecar/sidecar/clients/go/sidecarv1"
)

// moment is a timestamp as a time; the zero time where it is unset.
func moment(stamp *timestamppb.Timestamp) time.Time {
	if stamp == nil {
		return time.Time{}
	}
	return stamp.AsTime()
}

func nodeInfo(node *sidecarv1.Node) NodeInfo {
	return NodeInfo{
		PeerID:             node.GetPeerId(),
		Network:            node.GetNetwork(),
		Agent:              node.GetAgent(),
		Version:            node.GetVersion(),
		ListeningAddresses: node.GetListeningAddresses(),
		AnnouncedAddresses: node.GetAnnouncedAddresses(),
		ObservedAddresses:  node.GetObservedAddresses(),
		StartTime:          moment(node.GetStartTime()),
		Uptime:             node.GetUptime().AsDuration(),
		APIEngine:          node.GetApiEngine(),
		Reachability:       Reachability(node.GetReachability()),
		Addresses:          addressReachabilities(node.GetAddresses()),
		RelayedAddresses:   node.GetRelayedAddresses(),
		PortMapping:        portMapping(node.GetPortMapping()),
	}
}

func portMapping(message *sidecarv1.PortMapping) PortMapping {
	mapping := PortMapping{
		State:    message.GetState(),
		Message:  message.GetMessage(),
		Remedy:   message.GetRemedy(),
		Gateway:  message.GetGateway(),
		Protocol: message.GetProtocol(),
	}
	for _, each := range message.GetPorts() {
		mapping.Ports = append(mapping.Ports, MappedPort{
			Address:    each.GetAddress(),
			Port:       each.GetPort(),
			ExpireTime: moment(each.GetExpireTime()),
		})
	}
	return mapping
}

func addressReachabilities(addresses []*sidecarv1.AddressReachability) []AddressReachability {
	var found []AddressReachability
	for _, each := range addresses {
		found = append(found, AddressReachability{
			Address:      each.GetAddress(),
			Reachability: Reachability(each.GetReachability()),
			Source:       each.GetSource(),
			Since:        moment(each.GetSince()),
			Proofs:       each.GetProofs(),
			Failures:     each.GetFailures(),
		})
	}
	return found
}

func readinessOf(message *sidecarv1.Readiness) Readiness {
	readiness := Readiness{Ready: message.GetReady()}
	for _, condition := range message.GetConditions() {
		readiness.Conditions = append(readiness.Conditions, Condition{
			Type:    condition.GetType(),
			Met:     condition.GetMet(),
			Reason:  condition.GetReason(),
			Message: condition.GetMessage(),
			Remedy:  condition.GetRemedy(),
			Since:   moment(condition.GetSince()),
		})
	}
	return readiness
}

func peerOf(message *sidecarv1.Peer) Peer {
	return Peer{
		PeerID:          message.GetPeerId(),
		Connected:       message.GetConnected(),
		Direction:       Direction(message.GetDirection()),
		Addresses:       message.GetAddresses(),
		RemoteAddress:   message.GetRemoteAddress(),
		Protocols:       message.GetProtocols(),
		Agent:           message.GetAgent(),
		ProtocolVersion: message.GetProtocolVersion(),
		Identified:      message.GetIdentified(),
		Latency:         message.GetLatency().AsDuration(),
		ConnectTime:     moment(message.GetConnectTime()),
		Connections:     message.GetConnections(),
		Protected:       message.GetProtected(),
		Score:           peerScore(message.GetScore()),
		Path:            PeerPath(message.GetPath()),
		PathTime:        moment(message.GetPathTime()),
		KnownAddresses:  peerAddresses(message.GetKnownAddresses()),
	}
}

func peerAddresses(messages []*sidecarv1.PeerAddress) []PeerAddress {
	var addresses []PeerAddress
	for _, message := range messages {
		addresses = append(addresses, PeerAddress{
			Address:     message.GetAddress(),
			Origin:      AddressOrigin(message.GetOrigin()),
			LastSuccess: moment(message.GetLastSuccess()),
			LastFailure: moment(message.GetLastFailure()),
		})
	}
	return addresses
}

func peerEvent(message *sidecarv1.PeerEvent) PeerEvent {
	event := PeerEvent{Type: PeerEventType(message.GetType()), Reason: message.GetReason()}
	if message.GetPeer() != nil {
		peer := peerOf(message.GetPeer())
		event.Peer = &peer
	}
	return event
}

func topicOf(message *sidecarv1.Topic) Topic {
	return Topic{
		Name:            message.GetName(),
		Subscribed:      message.GetSubscribed(),
		Signing:         Signing(message.GetSigning()),
		Peers:           message.GetPeers(),
		MeshPeerIDs:     message.GetMeshPeerIds(),
		Subscribers:     message.GetSubscribers(),
		HistoryMessages: message.GetHistoryMessages(),
		Delivered:       message.GetDelivered(),
		DeliveredBytes:  message.GetDeliveredBytes(),
		Published:       message.GetPublished(),
		PublishedBytes:  message.GetPublishedBytes(),
		Scoring:         message.GetScoring(),
		Duplicates:      message.GetDuplicates(),
		Rejected:        message.GetRejected(),
		Dropped:         message.GetDropped(),
		Ignored:         message.GetIgnored(),
		Validators:      message.GetValidators(),
		Unjudged:        message.GetUnjudged(),
		History:         HistoryState(message.GetHistory()),
		StoredMessages:  message.GetStoredMessages(),
		StoredBytes:     message.GetStoredBytes(),
		OldestTime:      moment(message.GetOldestTime()),
		CompleteSince:   moment(message.GetCompleteSince()),
		CompleteUntil:   moment(message.GetCompleteUntil()),
		HistoryGap:      message.GetHistoryGap(),
	}
}

func publishReceipts(message *sidecarv1.PublishReceiptRange) PublishReceipts {
	return PublishReceipts{
		First:      message.GetFirst(),
		Count:      message.GetCount(),
		Outcome:    PublishOutcome(message.GetOutcome()),
		Peers:      message.GetPeers(),
		Dropped:    message.GetDropped(),
		MessageIDs: message.GetMessageIds(),
	}
}

func sendReceipts(message *sidecarv1.SendReceiptRange) SendReceipts {
	return SendReceipts{
		First:   message.GetFirst(),
		Count:   message.GetCount(),
		Outcome: SendOutcome(message.GetReceipt().GetOutcome()),
		Detail:  message.GetReceipt().GetDetail(),

		MessageID: messageIDOf(message.GetReceipt().GetMessageId()),
	}
}

func requestOf(message *sidecarv1.IncomingRequest) *Request {
	return &Request{
		PeerID:   message.GetPeerId(),
		Protocol: message.GetProtocol(),
		Data:     message.GetData(),
		TimeLeft: message.GetTimeLeft().AsDuration(),

		Traceparent: message.GetTraceparent(),
	}
}

func announcementOf(message *sidecarv1.AdvertiseResponse) Announcement {
	return Announcement{
		Holders:          message.GetHolders(),
		Asked:            message.GetAsked(),
		NextAnnouncement: moment(message.GetNextAnnouncement()),
	}
}

func recordOf(message *sidecarv1.GetRecordResponse) Record {
	return Record{
		Value:     message.GetValue(),
		Holders:   message.GetHolders(),
		ExpiresAt: moment(message.GetExpiresAt()),
		Publisher: message.GetPublisher(),
		Sequence:  message.GetSequence(),
	}
}
