// Go's net/http: says each request that it saw whole, a JSON line each.
package main

import (
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
)

// Each byte a character, as in ISO 8859-1.
func letters(bytes string) string {
	runes := make([]rune, 0, len(bytes))
	for at := 0; at < len(bytes); at++ {
		runes = append(runes, rune(bytes[at]))
	}
	return string(runes)
}

func main() {
	var lock sync.Mutex
	lines := json.NewEncoder(os.Stdout)
	handler := func(response http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		if err != nil {
			response.Header().Set("Connection", "close")
			response.WriteHeader(400)
			return
		}
		from, _, _ := net.SplitHostPort(request.RemoteAddr)
		lock.Lock()
		lines.Encode(map[string]string{
			"case":   from,
			"method": letters(request.Method),
			"target": letters(request.RequestURI),
			"host":   letters(request.Host),
			"body":   letters(string(body)),
		})
		lock.Unlock()
		if request.Method == "CONNECT" {
			response.WriteHeader(405)
			return
		}
		response.WriteHeader(204)
	}
	server := http.Server{Addr: "127.0.0.1:" + os.Args[1], Handler: http.HandlerFunc(handler), ErrorLog: log.New(io.Discard, "", 0)}
	log.Fatal(server.ListenAndServe())
}
