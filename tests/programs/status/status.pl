# Prints the status of one call: status.pl URL
use LWP::UserAgent;

my $response = LWP::UserAgent->new->get($ARGV[0]);
# What LWP makes up where there was no answer.
die $response->status_line if ($response->header("Client-Warning") // "") eq "Internal response";
print $response->code, "\n";
