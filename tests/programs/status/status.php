<?php
// Prints the status of one call: status.php stream|curl URL
[, $kind, $url] = $argv;
if ($kind === "stream") {
    $context = stream_context_create(["http" => ["ignore_errors" => true]]);
    file_get_contents($url, false, $context) !== false && print(explode(" ", $http_response_header[0])[1] . "\n");
} else {
    $call = curl_init($url);
    curl_setopt($call, CURLOPT_RETURNTRANSFER, true);
    if (curl_exec($call) === false) {
        fwrite(STDERR, curl_error($call) . "\n");
    } else {
        print(curl_getinfo($call, CURLINFO_RESPONSE_CODE) . "\n");
    }
}
