# What the checks of the sources share: the text of a Rust file without comments and literals, and
# the paths that it names.
use strict;
use warnings;

# Comments and literals become blanks of the same lines, so that numbers of lines stay true. The
# strings are added to `$strings`, each with its line, where that is given.
sub bare {
    my ( $text, $strings ) = @_;
    my $blank  = sub { my $gone = shift; $gone =~ s/[^\n]//g; " $gone" };
    my $out    = '';
    my $string = sub {
        my $literal = shift;
        push @$strings, [ 1 + ( $out =~ tr/\n// ), $literal ] if $strings;
        $out .= $blank->($literal);
    };
    pos($text) = 0;
    while ( pos($text) < length $text ) {
        if    ( $text =~ m{\G//[^\n]*}gc )                        { }
        elsif ( $text =~ m{\G/\*}gc ) {
            my ( $depth, $from ) = ( 1, pos $text );
            while ( $depth && $text =~ m{(/\*|\*/)}gc ) { $depth += $1 eq '/*' ? 1 : -1 }
            pos($text) = length $text if $depth;
            $out .= $blank->( substr $text, $from, pos($text) - $from );
        }
        elsif ( $text =~ m{\Gb?r(#*)".*?"\1}gcs )                 { $string->($&) }
        elsif ( $text =~ m{\Gb?"(?:[^"\\]|\\.)*"}gcs )            { $string->($&) }
        elsif ( $text =~ m{\Gb?'(?:[^'\\\n]|\\[^\n]{1,10}?)'}gc ) { $out .= ' ' }
        elsif ( $text =~ m{\G(\w+|.)}gcs )                        { $out .= $1 }
    }
    return $out;
}

# `a::{b, c::{d, self}}` -> a::b, a::c::d, a::c
sub expand {
    my ( $prefix, $tree ) = @_;
    $tree =~ s/^\s+|\s+$//g;
    $tree =~ s/\s+as\s+\w+$//;
    if ( $tree =~ /^(.*?)\{(.*)\}$/s ) {
        my ( $head, $inner ) = ( $1, $2 );
        my ( $depth, @parts ) = ( 0, '' );
        for my $char ( split //, $inner ) {
            if ( $char eq ',' && !$depth ) { push @parts, ''; next }
            $depth += $char eq '{' ? 1 : $char eq '}' ? -1 : 0;
            $parts[-1] .= $char;
        }
        return map { expand( $prefix . $head, $_ ) } grep {/\S/} @parts;
    }
    ( my $path = $prefix . $tree ) =~ s/\s+//g;
    $path =~ s/::self$//;
    return $path;
}

# The paths of a text that `bare` made, each with its line and whether a use tree has it; of the
# others those of two names or more.
sub paths {
    my ($text) = @_;
    my @found;
    my $note = sub {
        my ( $path, $at, $used ) = @_;
        push @found, [ $path, 1 + ( substr( $text, 0, $at ) =~ tr/\n// ), $used ];
    };
    while ( $text =~ /\buse\s+([^;]+);/g ) {
        my ( $tree, $at ) = ( $1, $-[0] );
        $note->( $_, $at, 1 ) for expand( '', $tree );
    }
    $text =~ s/(\buse\s+[^;]+;)/( my $gone = $1 ) =~ s{[^\n]}{ }g; $gone/ge;
    while ( $text =~ /(?<![\w:])((?:::)?\w+(?:\s*::\s*\w+)+)/g ) {
        ( my $path = $1 ) =~ s/\s+//g;
        $note->( $path, $-[0] );
    }
    while ( $text =~ /\bextern\s+crate\s+(\w+)/g ) { $note->( $1, $-[0] ) }
    return @found;
}

1;
