#!/usr/bin/perl
# The queue of mode `classic` as a site written in Perl has it, over Cache::Memcached.
#
#   poll_queue.pl [OPTIONS] vote  SERVER…   queue each line of the input
#   poll_queue.pl [OPTIONS] drain SERVER…   take out what is queued; each message as a line of hex
#   poll_queue.pl [OPTIONS] place SERVER…   store each line of the input under itself
#
#   --prefix=TEXT        of the queue's keys
#   --patience=S         so much napping, and a waiter goes on as the lock's holder
#   --namespace=TEXT     Cache::Memcached puts it before every key
#   --compress-from=B    Cache::Memcached compresses values of so many bytes
#   --references         values are references to the lines, which Cache::Memcached freezes
use strict;
use warnings;

use Cache::Memcached;
use Getopt::Long;
use Time::HiRes qw(usleep);

use constant NAP_US => 1_000;

my %option = (prefix => 'poll-queue', patience => 1, namespace => '', 'compress-from' => 0);
GetOptions(\%option, 'prefix=s', 'patience=f', 'namespace:s', 'compress-from=i', 'references')
    or exit 2;
my ($verb, @servers) = @ARGV;
my %verbs = (vote => \&vote, drain => \&drain, place => \&place);
die "usage: poll_queue.pl [OPTIONS] vote|drain|place SERVER...\n"
    unless @servers && exists $verbs{$verb};

my $cache = Cache::Memcached->new(
    servers            => \@servers,
    namespace          => $option{namespace},
    compress_threshold => $option{'compress-from'},
    no_rehash          => 1,
);
my ($lock, $pointer) = map { "$option{prefix}-$_" } qw(lock curr);
$verbs{$verb}->();

sub vote {
    while (my $line = <STDIN>) {
        chomp $line;
        enter();
        my $number = $cache->incr($pointer);
        if (!defined $number) {
            $cache->set($pointer, 1);
            $number = 0;    # as classic has it: nobody told this voter a number
        }
        $cache->set(slot($number), $option{references} ? \$line : $line);
        leave();
    }
}

sub drain {
    enter();
    my $last = $cache->get($pointer) || 0;
    my @messages = grep { defined } map { $cache->get(slot($_)) } 1 .. $last;
    $cache->set($pointer, 0);
    leave();
    print unpack('H*', $_), "\n" for @messages;
}

sub place {
    while (my $key = <STDIN>) {
        chomp $key;
        $cache->set($key, $key) or die "not stored: $key\n";
    }
}

sub enter {
    my $slept_us = 0;
    while ($slept_us < $option{patience} * 1_000_000) {
        my $holders = $cache->incr($lock);
        if (!defined $holders) {    # cold, or no memcached: this client cannot tell
            $cache->set($lock, 1);
            $cache->set($pointer, 0);
            return;
        }
        return if $holders == 1;
        $slept_us += usleep(NAP_US);
    }
}

sub leave {
    $cache->set($lock, 0);
}

sub slot {
    my ($number) = @_;
    return "$option{prefix}-key-$number";
}
