#!/bin/sh
# Makes the three sample clips and their thumbnails from ffmpeg's own generators: no footage, no rights, small files.
set -eu
cd "$(dirname "$0")"

encode="-c:v libx264 -preset veryslow -profile:v high -pix_fmt yuv420p -g 50 -movflags +faststart -map_metadata -1 -fflags +bitexact"
sound="-c:a aac -b:a 64k -ac 1"

# 1. Slow colours drifting over a soft chord.
ffmpeg -v error -y \
  -f lavfi -i "gradients=s=1280x720:r=25:d=8:speed=0.012:nb_colors=5:seed=11:c0=0x1b1464:c1=0xd9480f:c2=0xffd166:c3=0x7048e8:c4=0x0b7285:type=spiral" \
  -f lavfi -i "aevalsrc=0.10*sin(2*PI*220*t)+0.07*sin(2*PI*277.18*t)+0.06*sin(2*PI*329.63*t):d=8,tremolo=f=0.5:d=0.5,afade=t=in:d=1,afade=t=out:st=7:d=1" \
  -vf "gblur=sigma=14,fade=t=in:d=0.5,fade=t=out:st=7.5:d=0.5" $encode -crf 24 $sound -shortest sunset-drift.mp4

# 2. Falling into the Mandelbrot set.
ffmpeg -v error -y \
  -f lavfi -i "mandelbrot=s=960x540:r=25:maxiter=600:start_scale=0.9:end_scale=0.0007:end_pts=260:start_x=-0.743643887037158704752191506114774:start_y=-0.131825904205311970493132056385139:inner=black:outer=normalized_iteration_count" \
  -f lavfi -i "aevalsrc=0.08*sin(2*PI*(110+6*t)*t)+0.05*sin(2*PI*(165+9*t)*t):d=7,afade=t=in:d=1,afade=t=out:st=6:d=1" \
  -t 7 -vf "format=gray,gblur=sigma=1.2,format=yuv444p,pseudocolor=preset=magma,fade=t=in:d=0.4,fade=t=out:st=6.6:d=0.4" $encode -crf 30 $sound deep-zoom.mp4

# 3. Conway's Life with trails that cool down.
ffmpeg -v error -y \
  -f lavfi -i "life=s=160x90:r=15:mold=8:ratio=0.22:seed=42:life_color=0x9dffda:death_color=0x0b3d6b:mold_color=0x041321" \
  -t 8 -vf "scale=1280:720:flags=neighbor,gblur=sigma=2,fade=t=in:d=0.4,fade=t=out:st=7.6:d=0.4,fps=25" $encode -crf 30 -an game-of-life.mp4

thumb() { ffmpeg -v error -y -ss "$2" -i "$1.mp4" -frames:v 1 -vf "scale=640:360:flags=lanczos" -q:v 4 -map_metadata -1 "$1.jpg"; }
thumb sunset-drift 3.2
thumb deep-zoom 6.1
thumb game-of-life 3.5
ls -l ./*.mp4 ./*.jpg
