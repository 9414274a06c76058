package sidecar

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// transportSecurity is plain text, or TLS by the options and the environment.
func transportSecurity(where target, config *settings) (credentials.TransportCredentials, error) {
	if !where.tls {
		if config.tls != nil || config.tlsCA != "" || config.tlsCert != "" || config.tlsKey != "" {
			return nil, badField("tls", "options of TLS were given, but the target %s is not tls://HOST:PORT", where.text)
		}
		return insecure.NewCredentials(), nil
	}
	if config.tls != nil {
		return credentials.NewTLS(config.tls.Clone()), nil
	}
	secured := &tls.Config{MinVersion: tls.VersionTLS12}
	if file := orEnvironment(config.tlsCA, "SIDECAR_TLS_CA"); file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, unreadable("tls_ca", err)
		}
		secured.RootCAs = x509.NewCertPool()
		if !secured.RootCAs.AppendCertsFromPEM(text) {
			return nil, badField("tls_ca", "%s has no certificate in PEM form", file)
		}
	}
	certificate := orEnvironment(config.tlsCert, "SIDECAR_TLS_CERT")
	key := orEnvironment(config.tlsKey, "SIDECAR_TLS_KEY")
	if (certificate == "") != (key == "") {
		return nil, badField("tls_cert", "a certificate and its key belong together, but only one was given")
	}
	if certificate != "" {
		pair, err := tls.LoadX509KeyPair(certificate, key)
		if err != nil {
			return nil, unreadable("tls_cert", err)
		}
		secured.Certificates = []tls.Certificate{pair}
	}
	return credentials.NewTLS(secured), nil
}

func orEnvironment(given, name string) string {
	if given != "" {
		return given
	}
	return os.Getenv(name)
}

func unreadable(field string, err error) *Error {
	failure := badField(field, "%s: %v", field, err)
	failure.cause = err
	return failure
}

// token is what every call shows to the sidecar, if there is one.
type token struct {
	fixed string
	file  string

	mu   sync.Mutex
	read string // what the file said, when it was as below
	at   time.Time
	size int64
}

// findToken is the token by the options and the environment; nil when there is none.
func findToken(where target, config *settings) (*token, error) {
	found := &token{fixed: config.token, file: config.tokenFile}
	if found.fixed == "" && found.file == "" {
		found.fixed = os.Getenv("SIDECAR_TOKEN")
	}
	if found.fixed == "" && found.file == "" {
		found.file = os.Getenv("SIDECAR_TOKEN_FILE")
	}
	if found.fixed == "" && found.file == "" {
		return nil, nil
	}
	if !where.tls && !where.private() {
		return nil, badField("token", "a token is not sent in plain text to %s; use tls://", where.text)
	}
	if _, err := found.text(); err != nil {
		return nil, err
	}
	return found, nil
}

// text is the token now. The file is read again when it has changed.
func (t *token) text() (string, error) {
	if t.fixed != "" {
		return checkedToken(t.fixed)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	state, err := os.Stat(t.file)
	if err == nil && t.read != "" && state.ModTime().Equal(t.at) && state.Size() == t.size {
		return t.read, nil
	}
	if err != nil {
		return "", unreadable("token_file", err)
	}
	content, err := os.ReadFile(t.file)
	if err != nil {
		return "", unreadable("token_file", err)
	}
	if t.read, err = checkedToken(string(content)); err != nil {
		return "", err
	}
	t.at, t.size = state.ModTime(), state.Size()
	return t.read, nil
}

func checkedToken(text string) (string, error) {
	text = strings.TrimSpace(text)
	if text == "" || strings.ContainsFunc(text, func(letter rune) bool { return letter <= ' ' || letter > '~' }) {
		return "", badField("token", "a token is printable ASCII without spaces; this one is not")
	}
	return text, nil
}

// GetRequestMetadata is asked by gRPC for each call.
func (t *token) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	text, err := t.text()
	if err != nil {
		return nil, err
	}
	return map[string]string{"authorization": "Bearer " + text}, nil
}

// RequireTransportSecurity is false since Unix sockets and loopback need none; findToken has refused all else.
func (t *token) RequireTransportSecurity() bool { return false }
