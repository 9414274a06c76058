package main

import (
	"encoding/hex"
	"net"
	"path/filepath"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// unanswered publishes: the daemon answers one after the other, and an app that waits for each is slower by half.
const unanswered = 1024

// daemonNode is go-libp2p-daemon, by its control protocol: a connection for each stream and each subscription.
type daemonNode struct {
	socket  string
	control *control
}

func joinDaemon(socket string) (node, error) {
	connection, err := dial(socket)
	if err != nil {
		return nil, err
	}
	return &daemonNode{socket, connection}, nil
}

func (n *daemonNode) close() { _ = n.control.Close() }

func (n *daemonNode) info() (string, []string, error) {
	answer, err := n.control.call(request(typeIdentify, 0, nil), responseIdentify)
	if err != nil {
		return "", nil, err
	}
	ids, err := values(answer, 1)
	if err != nil || len(ids) != 1 {
		return "", nil, errMalformed
	}
	found, err := values(answer, 2)
	addresses := []string{}
	for _, address := range found {
		addresses = append(addresses, hex.EncodeToString(address))
	}
	return hex.EncodeToString(ids[0]), addresses, err
}

func (n *daemonNode) connect(id string, addresses []string) error {
	peer, err := hex.DecodeString(id)
	if err != nil {
		return err
	}
	binary := make([][]byte, len(addresses))
	for i, address := range addresses {
		if binary[i], err = hex.DecodeString(address); err != nil {
			return err
		}
	}
	_, err = n.control.call(request(typeConnect, fieldConnect, peerRequest(peer, 2, binary...)), 0)
	return err
}

func (n *daemonNode) disconnect(id string) error {
	peer, err := hex.DecodeString(id)
	if err != nil {
		return err
	}
	_, err = n.control.call(request(typeDisconnect, fieldDisconnect, peerRequest(peer, 0)), 0)
	return err
}

func (n *daemonNode) subscribe(topics []string, _ bool, each func([][]byte)) error {
	for _, topic := range topics {
		if err := n.subscribeOne(topic, each); err != nil {
			return err
		}
	}
	return nil
}

func (n *daemonNode) subscribeOne(topic string, each func([][]byte)) error {
	connection, err := dial(n.socket)
	if err != nil {
		return err
	}
	if _, err := connection.call(pubSubRequest(pubSubSubscribe, topic, nil), 0); err != nil {
		return err
	}
	go func() {
		for {
			message, err := connection.read()
			fatal(err)
			payloads, err := values(message, 2)
			fatal(err)
			each(payloads)
		}
	}()
	return nil
}

func (n *daemonNode) known(topic string) error {
	for range 600 {
		answer, err := n.control.call(pubSubRequest(pubSubListPeers, topic, nil), responsePubSub)
		if err != nil {
			return err
		}
		if peers, err := values(answer, 2); err != nil || len(peers) > 0 {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
	return errUnexpected
}

func (n *daemonNode) publish(topic string, _ bool, messages <-chan []byte) error {
	connection, err := dial(n.socket)
	if err != nil {
		return err
	}
	defer func() { _ = connection.Close() }()
	waiting := make(chan struct{}, unanswered)
	answered := make(chan error, 1)
	go func() {
		for range waiting {
			if _, err := connection.response(0); err != nil {
				answered <- err
				return
			}
		}
		answered <- nil
	}()
	for message := range messages {
		if err := connection.write(pubSubRequest(pubSubPublish, topic, message)); err != nil {
			return err
		}
		if len(messages) == 0 {
			if err := connection.writer.Flush(); err != nil {
				return err
			}
		}
		select {
		case waiting <- struct{}{}:
		case err := <-answered:
			return err
		}
	}
	close(waiting)
	return <-answered
}

func (n *daemonNode) open(id, protocol string) (stream, error) {
	peer, err := hex.DecodeString(id)
	if err != nil {
		return nil, err
	}
	connection, err := dial(n.socket)
	if err != nil {
		return nil, err
	}
	_, err = connection.call(request(typeStreamOpen, fieldStreamOpen, peerRequest(peer, 2, []byte(protocol))), 0)
	if err != nil {
		return nil, err
	}
	return connection, nil
}

func (n *daemonNode) accept(protocols []string, handle func(string, stream)) error {
	path := filepath.Join(filepath.Dir(n.socket), "streams")
	listener, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	body := appendBytes(nil, 1, protowire.AppendBytes(protowire.AppendVarint(nil, multiaddrUnix), []byte(path)))
	for _, protocol := range protocols {
		body = appendBytes(body, 2, []byte(protocol))
	}
	go func() {
		for {
			accepted, err := listener.Accept()
			fatal(err)
			go func() {
				connection := newControl(accepted)
				info, err := connection.read()
				fatal(err)
				names, err := values(info, 3)
				fatal(err)
				handle(string(names[0]), connection)
			}()
		}
	}()
	_, err = n.control.call(request(typeStreamHandler, fieldStreamHandler, body), 0)
	return err
}
