package main

import "io"

// node is the process beside the app: what both kinds of it can do. Peer ids and addresses are its own text, and opaque.
type node interface {
	info() (id string, addresses []string, err error)
	connect(id string, addresses []string) error
	disconnect(id string) error

	// subscribe calls each with what came together, from a goroutine of the subscription's own.
	subscribe(topics []string, signed bool, each func(payloads [][]byte)) error
	// known waits until a peer is known to subscribe.
	known(topic string) error
	// publish takes messages as they come, and ends once the channel is closed and the node has taken them all.
	publish(topic string, signed bool, messages <-chan []byte) error

	open(id, protocol string) (stream, error)
	// accept handles each stream that comes, in a goroutine of its own.
	accept(protocols []string, handle func(protocol string, opened stream)) error

	close()
}

// asker is a node that has direct messages and requests, beside streams.
type asker interface {
	answer(protocol, echo string, received func(messages int)) error
	send(id, protocol string, data []byte) (receipt, error)
	request(id, protocol string, data []byte) error
}

// receipt waits for what became of a message.
type receipt func() error

type stream interface {
	io.ReadWriteCloser
}
