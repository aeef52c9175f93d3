"""What a drawing shows, whatever it is drawn with: arranging, smoothing, densities, words. Knows no drawing library."""
