// Prints the status of one call: status system|pool URL. With `pool` the program brings roots of its own.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
)

func main() {
	client := &http.Client{}
	if os.Args[1] == "pool" {
		roots := &tls.Config{RootCAs: x509.NewCertPool()}
		client.Transport = &http.Transport{TLSClientConfig: roots}
	}
	response, err := client.Get(os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(response.StatusCode)
}
