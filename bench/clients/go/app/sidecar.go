package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	sidecar "github.com/p2p-sidecar/sidecar/clients/go"
)

const topicsAtOnce = 64 // of one subscription, at most

var (
	background    = context.Background()
	errUnexpected = errors.New("another answer than expected")
)

// sidecarNode is a sidecar, by its Go client.
type sidecarNode struct{ client *sidecar.Client }

func joinSidecar(socket string) (node, error) {
	client, err := sidecar.Connect(background, sidecar.WithTarget("unix:"+socket), sidecar.WithReconnect(false))
	if err != nil {
		return nil, err
	}
	return &sidecarNode{client}, nil
}

func (n *sidecarNode) close() { _ = n.client.Close() }

func (n *sidecarNode) info() (string, []string, error) {
	info, err := n.client.Info(background)
	return info.PeerID, info.ListeningAddresses, err
}

func (n *sidecarNode) connect(id string, addresses []string) error {
	_, err := n.client.ConnectPeer(background, id, addresses...)
	return err
}

func (n *sidecarNode) disconnect(id string) error { return n.client.DisconnectPeer(background, id) }

func signing(signed bool) sidecar.Signing {
	if signed {
		return sidecar.SigningStrictSign
	}
	return sidecar.SigningStrictNoSign
}

func (n *sidecarNode) subscribe(topics []string, signed bool, each func([][]byte)) error {
	for some := range slices.Chunk(topics, topicsAtOnce) {
		subscription, err := n.client.Subscribe(background, some, sidecar.WithSigning(signing(signed)))
		if err != nil {
			return err
		}
		go func() {
			fatal(readAll(subscription.Batches(), each))
		}()
	}
	return nil
}

func readAll[M any](batches iter.Seq2[*sidecar.Batch[M], error], each func([][]byte)) error {
	var payloads [][]byte
	for batch, err := range batches {
		if err != nil {
			return err
		}
		if lagged := batch.Lagged(); lagged != nil {
			return fmt.Errorf("lagged: %v", lagged)
		}
		payloads = payloads[:0]
		for payload := range batch.Payloads() {
			payloads = append(payloads, payload)
		}
		each(payloads)
	}
	return errUnexpected
}

// known: publishing waits for a peer by itself.
func (n *sidecarNode) known(string) error { return nil }

func (n *sidecarNode) publish(topic string, signed bool, messages <-chan []byte) error {
	done, err := n.client.PublishFrom(
		background, topic, messages, sidecar.WithSigning(signing(signed)), sidecar.WithMinimumPeers(1),
	)
	for _, receipts := range done {
		if err == nil && receipts.Outcome != sidecar.PublishSent {
			err = fmt.Errorf("%d messages: %v", receipts.Count, receipts.Outcome)
		}
	}
	return err
}

func (n *sidecarNode) open(id, protocol string) (stream, error) {
	return n.client.OpenStream(background, id, protocol)
}

func (n *sidecarNode) accept(protocols []string, handle func(string, stream)) error {
	acceptor, err := n.client.AcceptStreams(background, protocols...)
	if err != nil {
		return err
	}
	go func() {
		for opened, err := range acceptor.Streams() {
			fatal(err)
			go handle(opened.Protocol(), opened)
		}
	}()
	return nil
}

func (n *sidecarNode) answer(protocol, echo string, received func(int)) error {
	receiver, err := n.client.Receive(background, []string{protocol})
	if err != nil {
		return err
	}
	go func() {
		fatal(readAll(receiver.Batches(), func(payloads [][]byte) { received(len(payloads)) }))
	}()
	same := func(_ context.Context, request *sidecar.Request) ([]byte, error) { return request.Data, nil }
	_, err = n.client.Serve(background, []string{echo}, same)
	return err
}

func (n *sidecarNode) send(id, protocol string, data []byte) (receipt, error) {
	pending := n.client.SendAsync(background, id, protocol, data)
	return func() error {
		told, err := pending.Wait()
		if err == nil && told.Outcome != sidecar.SendDelivered {
			err = fmt.Errorf("a direct message: %v", told.Outcome)
		}
		return err
	}, nil
}

func (n *sidecarNode) request(id, protocol string, data []byte) error {
	answer, err := n.client.Request(background, id, protocol, data)
	if err == nil && !bytes.Equal(answer, data) {
		err = errUnexpected
	}
	return err
}
