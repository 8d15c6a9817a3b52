//! The figures as a picture: durable punches per second over the number in flight, one line per engine.

use std::path::Path;

use plotters::prelude::*;

use crate::disk::Outcome;
use crate::durable::{IN_FLIGHT, Row};

/// Draws an SVG file; both axes are logarithmic.
pub fn draw(path: &Path, rows: &[Row]) -> Outcome<()> {
    let root = SVGBackend::new(path, (960, 600)).into_drawing_area();
    root.fill(&WHITE)?;
    let rates = || rows.iter().flat_map(|row| row.cells.iter().map(|cell| cell.per_second));
    let lowest = rates().fold(f64::INFINITY, f64::min) / 2.0;
    let highest = rates().fold(0.0, f64::max) * 2.0;
    let columns = IN_FLIGHT[0] as f64..IN_FLIGHT[IN_FLIGHT.len() - 1] as f64;
    let mut chart = ChartBuilder::on(&root)
        .caption("Durable punches per second", ("sans-serif", 26))
        .margin(16)
        .x_label_area_size(48)
        .y_label_area_size(80)
        .build_cartesian_2d(columns.log_scale(), (lowest..highest).log_scale())?;
    chart.configure_mesh().x_desc("punches in flight").y_desc("punches/s").draw()?;
    for (index, row) in rows.iter().enumerate() {
        let colour = Palette99::pick(index).to_rgba();
        let points = || IN_FLIGHT.iter().zip(&row.cells).map(|(count, cell)| (*count as f64, cell.per_second));
        chart
            .draw_series(LineSeries::new(points(), colour.stroke_width(3)))?
            .label(row.engine.to_string())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 24, y)], colour.stroke_width(3)));
        let dots = points().map(|point| Circle::new(point, 4, colour.filled()));
        chart.draw_series(dots)?;
    }
    chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.9))
        .border_style(BLACK)
        .position(SeriesLabelPosition::LowerRight)
        .draw()?;
    Ok(root.present()?)
}
