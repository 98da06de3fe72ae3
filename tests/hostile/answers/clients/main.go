// Go's net/http: says what it makes of each answer, a JSON line each.
package main

import (
	"bufio"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// Each byte a character, as in ISO 8859-1.
func letters(bytes []byte) string {
	runes := make([]rune, 0, len(bytes))
	for _, octet := range bytes {
		runes = append(runes, rune(octet))
	}
	return string(runes)
}

func ask(name string, method string) map[string]string {
	client := http.Client{Transport: &http.Transport{DisableCompression: true}, Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	request, err := http.NewRequest(method, "http://127.0.0.1:"+os.Args[1]+"/"+name, nil)
	if err != nil {
		log.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		return map[string]string{"case": name, "error": err.Error()}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return map[string]string{"case": name, "error": err.Error()}
	}
	return map[string]string{"case": name, "status": strconv.Itoa(response.StatusCode), "body": letters(body)}
}

func main() {
	// What it says of bytes behind an answer is not asked for.
	log.SetOutput(io.Discard)
	said := json.NewEncoder(os.Stdout)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		said.Encode(ask(words[0], words[1]))
	}
}
