package sidecar

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"strings"
	"sync"

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
	files := &tlsFiles{}
	for _, one := range []struct {
		path        *string
		given, name string
	}{
		{&files.ca, config.tlsCA, "SIDECAR_TLS_CA"},
		{&files.certificate, config.tlsCert, "SIDECAR_TLS_CERT"},
		{&files.key, config.tlsKey, "SIDECAR_TLS_KEY"},
	} {
		path, err := wholeFile(strings.ToLower(one.name[len("SIDECAR_"):]), orEnvironment(one.given, one.name))
		if err != nil {
			return nil, err
		}
		*one.path = path
	}
	read, err := files.read()
	if err != nil {
		return nil, err
	}
	files.last = read
	files.TransportCredentials = credentials.NewTLS(read)
	return files, nil
}

// tlsFiles are credentials from files, which are read again for every connection: certificates are replaced while an app
// runs. While they cannot be read, what they said last counts.
type tlsFiles struct {
	credentials.TransportCredentials // of the first reading: what does not depend on the files

	ca, certificate, key string // paths; empty where there is none

	mu   sync.Mutex
	last *tls.Config
}

// read makes a configuration of what the files say now.
func (f *tlsFiles) read() (*tls.Config, error) {
	secured := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.ca != "" {
		text, err := os.ReadFile(f.ca)
		if err != nil {
			return nil, unreadable("tls_ca", err)
		}
		secured.RootCAs = x509.NewCertPool()
		if !secured.RootCAs.AppendCertsFromPEM(text) {
			return nil, badField("tls_ca", "%s has no certificate in PEM form", shown(f.ca))
		}
	}
	if (f.certificate == "") != (f.key == "") {
		return nil, badField("tls_cert", "a certificate and its key belong together, but only one was given")
	}
	if f.certificate != "" {
		pair, err := tls.LoadX509KeyPair(f.certificate, f.key)
		if err != nil {
			return nil, unreadable("tls_cert", err)
		}
		secured.Certificates = []tls.Certificate{pair}
	}
	return secured, nil
}

// ClientHandshake is called by gRPC for each connection.
func (f *tlsFiles) ClientHandshake(
	ctx context.Context, authority string, raw net.Conn,
) (net.Conn, credentials.AuthInfo, error) {
	read, err := f.read()
	f.mu.Lock()
	if err == nil {
		f.last = read
	}
	secured := f.last
	f.mu.Unlock()
	return credentials.NewTLS(secured).ClientHandshake(ctx, authority, raw)
}

// Clone is called by gRPC for each ClientConn, of which there is one.
func (f *tlsFiles) Clone() credentials.TransportCredentials { return f }

// wholeFile is the whole path of a file that is read now and later; empty stays empty.
func wholeFile(field, path string) (string, error) {
	if path == "" {
		return "", nil
	}
	whole, err := wholePath(path)
	if err != nil {
		return "", unreadable(field, err)
	}
	return whole, nil
}

func orEnvironment(given, name string) string {
	if given != "" {
		return given
	}
	return environment(name)
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

	mu    sync.Mutex
	read  string // what the file said, when it was as below
	state os.FileInfo
}

// findToken is the token by the options and the environment; nil when there is none.
func findToken(where target, config *settings) (*token, error) {
	found := &token{fixed: config.token, file: config.tokenFile}
	if found.fixed == "" && found.file == "" {
		found.fixed = environment("SIDECAR_TOKEN")
	}
	if found.fixed == "" && found.file == "" {
		found.file = environment("SIDECAR_TOKEN_FILE")
	}
	if found.fixed == "" && found.file == "" {
		return nil, nil
	}
	if !where.tls && !where.private() {
		return nil, badField("token", "a token is not sent in plain text to %s; use tls://", where.text)
	}
	var err error
	if found.file, err = wholeFile("token_file", found.file); err != nil {
		return nil, err
	}
	if _, err := found.text(); err != nil {
		return nil, err
	}
	return found, nil
}

// text is the token now. The file is read again when it has changed; while it is missing, unreadable, empty or half written,
// which passes, its last token counts.
func (t *token) text() (string, error) {
	if t.fixed != "" {
		return checkedToken(t.fixed)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	state, err := os.Stat(t.file)
	if err == nil && t.read != "" && os.SameFile(state, t.state) &&
		state.ModTime().Equal(t.state.ModTime()) && state.Size() == t.state.Size() {
		return t.read, nil
	}
	text := ""
	if err == nil {
		var content []byte
		if content, err = os.ReadFile(t.file); err == nil {
			text, err = checkedToken(string(content))
		} else {
			err = unreadable("token_file", err)
		}
	} else {
		err = unreadable("token_file", err)
	}
	switch {
	case err == nil:
		t.read, t.state = text, state
	case t.read == "":
		return "", err
	}
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
